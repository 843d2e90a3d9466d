/* A step of a lowered network in one call: forward, backward and SGD. */

#include "sparse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static Pass pass_of(const Network *network, const Call *call, const Layer *layer) {
  return (Pass){.network = network, .call = call, .layer = layer, .from = network->maps + layer->from,
                .to = network->maps + layer->to, .beside = layer->beside < 0 ? NULL : network->maps + layer->beside,
                .norm = layer->norm < 0 ? NULL : network->norms + layer->norm};
}

INLINE double places_of(const Map *map, const Call *call) { return (double)call->count * map->height * map->width; }

/* Copy kept weights from the parameters to the layers' lists; only the parameters persist between steps. */
static void read_weights(void *argument, int part, int parts) {
  const Pass *pass = argument;
  const float *parameters = pass->call->parameters;
  for (long i = 0; i < pass->network->layer_count; i++) {
    const Layer *layer = pass->network->layers + i;
    if (layer->filters) {
      winograd_filters(layer, parameters, part, parts);
      continue;
    }
    for (long k = first_of(layer->kept, part, parts); k < first_of(layer->kept, part + 1, parts); k++) {
      layer->weights[k] = parameters[layer->place[k]];
      if (layer->turned_place) layer->turned[k] = parameters[layer->turned_place[k]];
    }
  }
}

/* Sum differences from the running mean, whose magnitude is that of the deviation, to limit rounding errors. */
static void begin(const Network *network, const Call *call) {
  for (long i = network->layer_count - 1; i >= 0; i--) {
    const Layer *layer = network->layers + i;
    if (layer->norm < 0) continue;
    const Map *map = network->maps + layer->from;
    memcpy(map->mean, call->means[layer->norm], sizeof(float) * layer->inputs);
    memset(map->third, 0, sizeof(float) * map->channels);
    memset(map->fourth, 0, sizeof(float) * map->channels);
  }
}

/* Mean and variance of a layer's output. */
static void finish_statistics(const Pass *pass, int parts) {
  const Layer *layer = pass->layer;
  const double places = places_of(pass->to, pass->call);
  for (long o = 0; o < layer->outputs; o++) {
    double sum = 0, square = 0;
    for (int part = 0; part < parts; part++) {
      const double *sums = pass->sums + 2 * layer->outputs * part;
      sum += sums[o], square += sums[layer->outputs + o];
    }
    const double apart = sum / places, variance = square / places - apart * apart;
    pass->to->mean[layer->first + o] += apart;
    pass->to->variance[layer->first + o] = variance < 0 ? 0 : variance;
  }
}

/* Slope and shift of a norm; in training, update its running statistics. */
static void prepare_norm(const Pass *pass) {
  const Call *call = pass->call;
  const Norm *norm = pass->norm;
  const float *weight = call->parameters + norm->weight, *bias = call->parameters + norm->bias;
  float *means = call->means[pass->layer->norm], *variances = call->variances[pass->layer->norm];
  const double places = places_of(pass->from, call), kept = 1 - call->moved;
  for (long c = 0; c < norm->channels; c++) {
    const double mean = call->mode == EVALUATE ? means[c] : pass->from->mean[c];
    const double variance = call->mode == EVALUATE ? variances[c] : pass->from->variance[c];
    const double slope = weight[c] / sqrt(variance + norm->epsilon);
    norm->slope[c] = slope, norm->shift[c] = bias[c] - mean * slope;
    if (call->mode == EVALUATE) continue;
    means[c] = call->moved * mean + kept * means[c];
    variances[c] = call->moved * variance * (places / (places - 1)) + kept * variances[c];
  }
}

/* Gradients of a norm, and its contribution to its map's third and fourth (see sparse.h). */
static void finish_norm(const Pass *pass, int parts) {
  const Norm *norm = pass->norm;
  const Map *map = pass->from;
  float *of_weight = pass->network->gradient + norm->slot, *of_bias = of_weight + norm->channels;
  const double places = places_of(map, pass->call);
  for (long c = 0; c < norm->channels; c++) {
    double sum = 0, product = 0;
    for (int part = 0; part < parts; part++) {
      const double *sums = pass->sums + 2 * norm->channels * part;
      sum += sums[c], product += sums[norm->channels + c];
    }
    const double inverse = 1 / sqrt(map->variance[c] + norm->epsilon), slope = norm->slope[c];
    const double third = -slope * inverse * inverse * product / places;
    of_bias[c] = sum, of_weight[c] = product * inverse;
    map->third[c] += third, map->fourth[c] += -slope * sum / places - third * map->mean[c];
  }
}

static void run_forward(Pass pass, int threads) {
  const Layer *layer = pass.layer;
  if (pass.norm) prepare_norm(&pass);
  if (layer->kind == HEAD) {
    share(head, &pass, threads);
    head_collect(&pass, threads);
    if (pass.call->mode >= GRADIENT) finish_norm(&pass, threads);
  } else if (layer->kind == CONVOLUTION) {
    share(layer->filters ? winograd_forward : forward, &pass, threads);
    if (pass.to->normed && pass.call->mode != EVALUATE) finish_statistics(&pass, threads);
  } else {
    share(pool_forward, &pass, threads);
  }
}

static void run_backward(Pass pass, int threads) {
  if (pass.layer->kind == HEAD) return; /* done in its forward pass */
  if (pass.layer->kind == CONVOLUTION) {
    share(pass.layer->filters ? winograd_backward : backward, &pass, threads);
    share(pass.layer->filters ? winograd_collect : collect, &pass, threads);
  } else {
    share(pool_backward, &pass, threads);
  }
  if (pass.norm && pass.layer->wanted) finish_norm(&pass, threads);
}

/* SGD with momentum and weight decay, as torch.optim.SGD. */
static void update(void *argument, int part, int parts) {
  const Pass *pass = argument;
  const Network *network = pass->network;
  const Call *call = pass->call;
  const float factor = call->factor, decay = call->decay, rate = call->rate;
  for (long i = first_of(network->slots, part, parts); i < first_of(network->slots, part + 1, parts); i++) {
    float *parameter = call->parameters + network->places[i], *momentum = call->momentum + network->places[i];
    *momentum = factor * *momentum + (network->gradient[i] + decay * *parameter);
    *parameter -= rate * *momentum;
  }
}

void sparse_run(const Network *network, const Call *call) {
  const int threads = (int)call->threads;
  long room = 0;
  for (long i = 0; i < network->layer_count; i++) {
    const Layer *layer = network->layers + i;
    const long needed = layer->filters ? winograd_room(network, layer) : room_for(network, layer);
    room = needed > room ? needed : room;
  }
  room = (room + 15) / 16 * 16;
  float *scratch = allocate(sizeof(float) * room * threads);
  double *sums = allocate(sizeof(double) * 2 * (network->widest + 1) * threads);
  Pass whole = {.network = network, .call = call};
  share(read_weights, &whole, threads);
  share(read_images, &whole, threads);
  begin(network, call);
  for (long i = 0; i < network->layer_count; i++) {
    Pass pass = pass_of(network, call, network->layers + i);
    pass.scratch = scratch, pass.sums = sums, pass.room = room;
    run_forward(pass, threads);
  }
  for (long i = network->layer_count - 1; i >= 0 && call->mode >= GRADIENT; i--) {
    Pass pass = pass_of(network, call, network->layers + i);
    pass.scratch = scratch, pass.sums = sums, pass.room = room;
    run_backward(pass, threads);
  }
  if (call->mode == STEP) share(update, &whole, threads);
  free(scratch);
  free(sums);
}

/* Peak rate, for benchmarks: multiply-adds on registers; returns the number of operations. */
__attribute__((noinline)) double sparse_peak(long repeats) {
  vec sums[TILE], factor = all(0.5f), addend = all(1.0f);
  for (int i = 0; i < TILE; i++) sums[i] = all((float)i);
  for (long r = 0; r < repeats; r++)
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) sums[i] = sums[i] * factor + addend;
  vec total = {0};
  for (int i = 0; i < TILE; i++) total += sums[i];
  return 2.0 * LANES * TILE * repeats + (across(total) < 0); /* never added; keeps the sums alive */
}

/* Sizes of the structures, for Python to check its layout. */
long sparse_lanes(void) { return LANES; }
long sparse_size(int of) {
  const long sizes[] = {sizeof(Map), sizeof(Norm), sizeof(Layer), sizeof(Network), sizeof(Call)};
  return sizes[of];
}
