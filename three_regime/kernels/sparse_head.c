/* The head: norm, ReLU, spatial mean, classifier and loss, and their backward passes, block by block.

   `first` and `bias` of the layer are the places of the classifier's (classes, inputs) and (classes) in the parameters;
   its gradients have slots in the same order. */

#include "sparse_band.h"

#include <math.h>

typedef struct {
  vec *sum, *product;     /* sums for the norm's gradients */
  vec *pooled, *behind;   /* per channel: means, and their gradients */
  vec *logits, *gradient; /* per class */
  vec *of_weights;        /* (classes, inputs + 1) */
} Room;

INLINE Room room_of(const Pass *pass, int part) {
  const long inputs = pass->layer->inputs, classes = pass->network->classes;
  vec *at = (vec *)(pass->scratch + part * pass->room);
  return (Room){at, at + inputs, at + 2 * inputs, at + 3 * inputs, at + 4 * inputs, at + 4 * inputs + classes,
                at + 4 * inputs + 2 * classes};
}

INLINE void pool_all(const Pass *pass, long block, vec live, vec *pooled) {
  const Map *from = pass->from;
  const vec places = all(1.0f / (from->height * from->width));
  for (long c = 0; c < pass->layer->inputs; c++) {
    const vec slope = live * pass->norm->slope[c], shift = live * pass->norm->shift[c];
    vec total = {0};
    for (long row = 0; row < from->height; row++) {
      const float *x = row_of(from, from->x, block, row, c);
      for (long i = 0; i < from->width; i++) total += rectified(slope * LOAD(x + i * LANES) + shift);
    }
    pooled[c] = total * places;
  }
}

INLINE void classify(const Pass *pass, const Room *room) {
  const float *weights = pass->call->parameters + pass->layer->first, *bias = pass->call->parameters + pass->layer->bias;
  for (long k = 0; k < pass->network->classes; k++) {
    vec total = all(bias[k]);
    for (long c = 0; c < pass->layer->inputs; c++) total += weights[k * pass->layer->inputs + c] * room->pooled[c];
    room->logits[k] = total;
  }
}

/* Losses and errors of a block, and the gradient of the mean loss with respect to the logits. */
INLINE void judge(const Pass *pass, long block, const Room *room, double totals[2]) {
  const Call *call = pass->call;
  const long classes = pass->network->classes;
  for (long k = 0; k < classes; k++) room->gradient[k] = (vec){0};
  for (int lane = 0; lane < LANES && block * LANES + lane < call->count; lane++) {
    const long image = block * LANES + lane;
    long best = 0;
    double total = 0;
    for (long k = 0; k < classes; k++) {
      if (call->logits) call->logits[image * classes + k] = room->logits[k][lane];
      if (room->logits[k][lane] > room->logits[best][lane]) best = k;
    }
    if (!call->labels) continue;
    const long label = call->labels[call->order ? call->order[image] : call->start + image];
    for (long k = 0; k < classes; k++) total += exp((double)room->logits[k][lane] - room->logits[best][lane]);
    totals[0] += log(total) + room->logits[best][lane] - room->logits[label][lane];
    totals[1] += best != label;
    for (long k = 0; k < classes; k++)
      room->gradient[k][lane] =
          (exp((double)room->logits[k][lane] - room->logits[best][lane]) / total - (k == label)) / call->count;
  }
}

INLINE void classify_backward(const Pass *pass, const Room *room) {
  const long inputs = pass->layer->inputs;
  const float *weights = pass->call->parameters + pass->layer->first;
  for (long c = 0; c < inputs; c++) room->behind[c] = (vec){0};
  for (long k = 0; k < pass->network->classes; k++) {
    const vec given = room->gradient[k];
    vec *to = room->of_weights + k * (inputs + 1);
    for (long c = 0; c < inputs; c++) {
      to[c] += given * room->pooled[c];
      room->behind[c] += given * weights[k * inputs + c];
    }
    to[inputs] += given;
  }
}

INLINE void spread_back(const Pass *pass, long block, vec live, const Room *room) {
  const Map *from = pass->from;
  const vec places = all(1.0f / (from->height * from->width));
  for (long c = 0; c < pass->layer->inputs; c++) {
    const vec slope = live * pass->norm->slope[c], shift = live * pass->norm->shift[c], mean = all(from->mean[c]);
    const vec given = room->behind[c] * places;
    for (long row = 0; row < from->height; row++) {
      const float *x = row_of(from, from->x, block, row, c);
      float *g = row_of(from, from->g, block, row, c);
      for (long i = 0; i < from->width; i++) {
        const vec number = LOAD(x + i * LANES), behind = where(slope * number + shift > 0, given);
        room->sum[c] += behind, room->product[c] += behind * (number - mean);
        STORE(g + i * LANES, slope * behind);
      }
    }
  }
}

void head(void *argument, int part, int parts) {
  const Pass *pass = argument;
  const long inputs = pass->layer->inputs, blocks = blocks_of(pass);
  const Room room = room_of(pass, part);
  double *totals = pass->sums + 2 * inputs * part, *judged = pass->sums + 2 * inputs * parts + 2 * part;
  memset(totals, 0, sizeof(double) * 2 * inputs);
  memset(room.of_weights, 0, sizeof(vec) * pass->network->classes * (inputs + 1));
  judged[0] = judged[1] = 0;
  for (long block = first_of(blocks, part, parts); block < first_of(blocks, part + 1, parts); block++) {
    const vec live = lanes_of(pass, block);
    pool_all(pass, block, live, room.pooled);
    classify(pass, &room);
    judge(pass, block, &room, judged);
    if (pass->call->mode < GRADIENT) continue;
    classify_backward(pass, &room);
    memset(room.sum, 0, sizeof(vec) * 2 * inputs);
    spread_back(pass, block, live, &room);
    for (long c = 0; c < inputs; c++) totals[c] += across(room.sum[c]), totals[inputs + c] += across(room.product[c]);
  }
}

/* Gradients of the classifier, losses and errors: sum over parts. */
void head_collect(const Pass *pass, int parts) {
  const long inputs = pass->layer->inputs, classes = pass->network->classes;
  float *of_weights = pass->network->gradient + pass->layer->slot, *of_bias = of_weights + classes * inputs;
  const double *judged = pass->sums + 2 * inputs * parts;
  double *totals = pass->call->totals;
  totals[0] = totals[1] = 0;
  for (int part = 0; part < parts; part++) totals[0] += judged[2 * part], totals[1] += judged[2 * part + 1];
  for (long k = 0; k < classes && pass->call->mode >= GRADIENT; k++)
    for (long c = 0; c <= inputs; c++) {
      double total = 0;
      for (int part = 0; part < parts; part++) total += across(room_of(pass, part).of_weights[k * (inputs + 1) + c]);
      if (c < inputs)
        of_weights[k * inputs + c] = total;
      else
        of_bias[k] = total;
    }
}
