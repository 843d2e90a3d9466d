/* Backward pass of a convolution: gradients of its kept weights and input, and the two sums of the input's norm, at once.

   The gradient of the result is assembled in a band on input, so it is never stored as a whole. */

#include "sparse_band.h"

typedef struct {
  const float *band, *dy; /* upper left of the neighbourhoods; dy is padded */
  long band_row, dy_row;
} Weights;

INLINE void weight_tile(const Pass *pass, Weights t, float *sums, const int P, const int R, const int S) {
  const Layer *layer = pass->layer;
  const float *dy = t.dy + t.dy_row + LANES;
  for (long o = 0; o < layer->outputs; o++, dy += (pass->to->width + 2) * LANES) {
    const long begin = layer->begin[o], count = layer->begin[o + 1] - begin;
    vec given[TILE];
#pragma GCC unroll 16
    for (int p = 0; p < P * R; p++) given[p] = LOAD(dy + p / P * t.dy_row + p % P * LANES);
    correlate(t.band, t.band_row * S, layer->at + begin, given, count, sums + begin * LANES, P, R, S);
  }
}

typedef struct {
  const float *dy, *x, *half;
  float *g;
  long dy_row, row; /* row strides */
  long next;        /* distance to the next tile of x and g */
  vec live, *sum, *product;
} Inputs;

/* Gradient at P columns (`step` apart) and R rows; `list`: index of the turned list. */
INLINE void input_tile(const Pass *pass, Inputs t, long list, const int P, const int R, const int step) {
  const Layer *layer = pass->layer;
  const Map *from = pass->from;
  const Norm *norm = pass->norm;
  const int *begins = layer->turned_begin + list * layer->inputs;
  const long width = (layer->kernel == 1 && layer->stride == 2 ? pass->to->width : from->width) * LANES;
  for (long c = 0; c < layer->inputs; c++, t.x += width, t.g += width) {
    const long begin = begins[c], count = begins[c + 1] - begin;
    vec acc[TILE];
#pragma GCC unroll 16
    for (int p = 0; p < P * R; p++) acc[p] = (vec){0};
    if (norm) fetch(t.x + t.next, t.row, P, R, step);
    fetch(t.g + t.next, t.row, P, R, step);
    gather(t.dy, t.dy_row, layer->turned_at + begin, layer->turned + begin, count, acc, P, R, 1);
    if (!norm) {
#pragma GCC unroll 16
      for (int p = 0; p < P * R; p++) {
        float *g = t.g + p / P * t.row + p % P * step * LANES;
        if (layer->adds) acc[p] += LOAD(g);
        STORE(g, acc[p]);
      }
      continue;
    }
    const vec slope = t.live * norm->slope[c], shift = t.live * norm->shift[c], mean = all(from->mean[c]);
    vec sum = {0}, product = {0};
#pragma GCC unroll 16
    for (int p = 0; p < P * R; p++) {
      const long at = p / P * t.row + p % P * step * LANES;
      const vec x = LOAD(t.x + at), behind = where(slope * x + shift > 0, acc[p]);
      sum += behind, product += behind * (x - mean);
      vec g = slope * behind;
      if (layer->adds) g += LOAD(t.g + at);
      if (t.half) g += LOAD(t.half + p % P * LANES);
      STORE(t.g + at, g);
    }
    t.sum[c] += sum, t.product[c] += product;
    if (t.half) t.half += pass->to->width * LANES;
  }
}

INLINE void weight_rows(const Pass *pass, Weights t, float *sums, const int R, const int S) {
#define DO(P, R_) weight_tile(pass, t, sums, P, R_, S), t.band += P * S * LANES, t.dy += P * LANES
  ACROSS(pass->to->width, R, DO)
#undef DO
}

INLINE void input_rows(const Pass *pass, Inputs t, const int R) {
  const long width = pass->to->width;
#define DO(P, R_)                                  \
  t.next = next_tile(x, width, t.row, P, R_, 1);   \
  input_tile(pass, t, 0, P, R_, 1), t.dy += P * LANES, t.x += P * LANES, t.g += P * LANES
  ACROSS(width, R, DO)
#undef DO
}

/* Positions of one parity of row and column, for stride 2. */
INLINE void parity_rows(const Pass *pass, Inputs t, long list) {
  const long width = pass->to->width;
#define DO(P, R_)                                                                                     \
  t.next = next_tile(x, width, t.row, P, R_, 2);                                                      \
  input_tile(pass, t, list, P, R_, 2), t.dy += P * LANES, t.x += 2 * P * LANES, t.g += 2 * P * LANES, \
      t.half = t.half ? t.half + P * LANES : NULL
  ACROSS(width, 1, DO)
#undef DO
}

INLINE void strided_inputs(const Pass *pass, Inputs t, long block, long y) {
  const Layer *layer = pass->layer;
  const Map *from = pass->from, *to = pass->to;
  float *half = layer->half ? layer->half + (block * to->height + y) * layer->inputs * to->width * LANES : NULL;
  if (layer->kernel == 1) {
    t.g = half;
    input_rows(pass, t, 1);
    return;
  }
  for (long list = 0; list < 4; list++) {
    const long row = 2 * y + list / 2;
    t.x = row_of(from, from->x, block, row, 0) + list % 2 * LANES;
    t.g = row_of(from, from->g, block, row, 0) + list % 2 * LANES;
    t.half = list ? NULL : half;
    parity_rows(pass, t, list);
  }
}

INLINE void differentiate(const Pass *pass, int part, int parts, const int S) {
  const Layer *layer = pass->layer;
  const Map *from = pass->from, *to = pass->to;
  const long row = band_row(layer->inputs, from->width), dy_row = band_row(layer->outputs, to->width);
  const long fits = band_rows(layer->inputs, from->width, to->height, S);
  const long also = band_rows(layer->outputs, to->width, to->height, 1), most = fits < also ? fits : also;
  float *scratch = pass->scratch + part * pass->room, *band = scratch + 2 * layer->inputs * LANES;
  float *dy = band + (most * S + 2) * row, *sums = layer->sums + layer->kept * LANES * part;
  vec *sum = (vec *)scratch, *product = sum + layer->inputs;
  double *totals = pass->sums + 2 * layer->inputs * part;
  memset(totals, 0, sizeof(double) * 2 * layer->inputs);
  memset(sums, 0, sizeof(float) * LANES * layer->kept);
  zero_columns(band, most * S + 2, layer->inputs, from->width);
  zero_columns(dy, most + 2, layer->outputs, to->width);
  const long blocks = blocks_of(pass);
  for (long block = first_of(blocks, part, parts); block < first_of(blocks, part + 1, parts); block++) {
    const vec live = lanes_of(pass, block);
    memset(sum, 0, sizeof(vec) * 2 * layer->inputs);
    for (long top = 0, count; top < to->height; top += count) {
      count = to->height - top < most ? to->height - top : most;
      const long kept = top ? 3 - S : 0, dy_kept = top ? 2 : 0;
      memmove(band, band + most * S * row, sizeof(float) * kept * row);
      memmove(dy, dy + most * dy_row, sizeof(float) * dy_kept * dy_row);
      FILL(band, activations, top * S - 1, kept, (count - 1) * S + 3, row);
      FILL(dy, gradients, top - 1, dy_kept, count + 2, dy_row);
      for (long y = 0, two; y < count; y += 1 + two) {
        two = to->width < TILE && y + 1 < count && S == 1;
        Weights t = {band + y * S * row, dy + y * dy_row, row, dy_row};
        Inputs i = {t.dy, NULL, NULL, NULL, dy_row, from->channels * from->width * LANES, 0, live, sum, product};
        if (S == 1) {
          i.x = row_of(from, from->x, block, top + y, 0);
          i.g = row_of(from, from->g, block, top + y, 0);
        }
        if (two)
          weight_rows(pass, t, sums, 2, S);
        else
          weight_rows(pass, t, sums, 1, S);
        if (!layer->wanted) continue;
        if (S == 2)
          strided_inputs(pass, i, block, top + y);
        else if (two)
          input_rows(pass, i, 2);
        else
          input_rows(pass, i, 1);
      }
    }
    for (long c = 0; c < layer->inputs; c++)
      totals[c] += across(sum[c]), totals[layer->inputs + c] += across(product[c]);
  }
}

void backward(void *argument, int part, int parts) {
  const Pass *pass = argument;
  if (pass->layer->stride == 1)
    differentiate(pass, part, parts, 1);
  else
    differentiate(pass, part, parts, 2);
}

/* Gradients of the weights: sum over parts. */
void collect(void *argument, int part, int parts) {
  const Pass *pass = argument;
  const Layer *layer = pass->layer;
  float *gradient = pass->network->gradient + layer->slot;
  for (long k = first_of(layer->kept, part, parts); k < first_of(layer->kept, part + 1, parts); k++) {
    vec sum = LOAD(layer->sums + k * LANES);
    for (int other = 1; other < parts; other++) sum += LOAD(layer->sums + (layer->kept * other + k) * LANES);
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) total += sum[lane];
    gradient[k] = total;
  }
}

long room_for(const Network *network, const Layer *layer) {
  const Map *from = network->maps + layer->from, *to = network->maps + layer->to;
  long most = 2 * (layer->inputs > layer->outputs ? layer->inputs : layer->outputs) * LANES;
  if (layer->kind == HEAD) return most + network->classes * (layer->inputs + 3) * LANES + layer->inputs * 2 * LANES;
  if (layer->kind != CONVOLUTION) return most;
  const long rows = band_rows(layer->inputs, from->width, to->height, layer->stride);
  const long dy_rows = band_rows(layer->outputs, to->width, to->height, 1);
  most += (rows * layer->stride + 2) * band_row(layer->inputs, from->width);
  return most + (dy_rows + 2) * band_row(layer->outputs, to->width);
}
