/* Forward pass of a convolution: by bands of rows, tiles of positions, output channels. */

#include "sparse_band.h"

typedef struct {
  const float *band;
  float *y;
  const float *addend;
  long band_row, y_row, addend_row; /* row strides */
  long y_next, addend_next;         /* distances to the next tile */
  vec live, *sum, *square;
} Tile;

/* All output channels at P columns and R rows. The tile's part of the band stays in the L1 cache meanwhile. */
INLINE void tile(const Pass *pass, Tile t, const int P, const int R, const int S) {
  const Layer *layer = pass->layer;
  const long width = pass->to->width * LANES;
  const float *pivot = pass->to->mean + layer->first, *bias = layer->bias < 0 ? NULL : pass->call->parameters + layer->bias;
  for (long o = 0; o < layer->outputs; o++, t.y += width, t.addend += width) {
    const long begin = layer->begin[o], count = layer->begin[o + 1] - begin;
    vec acc[TILE], start = {0};
    if (bias) start = t.live * bias[o];
#pragma GCC unroll 16
    for (int p = 0; p < P * R; p++) acc[p] = start;
    fetch(t.y + t.y_next, t.y_row, P, R, 1);
    if (pass->beside) {
      fetch(t.addend + t.addend_next, t.addend_row, P, R, 1);
#pragma GCC unroll 16
      for (int p = 0; p < P * R; p++) acc[p] = LOAD(t.addend + p / P * t.addend_row + p % P * LANES);
    }
    gather(t.band, t.band_row, layer->at + begin, layer->weights + begin, count, acc, P, R, S);
    vec sum = {0}, square = {0}, near = t.live * pivot[o];
#pragma GCC unroll 16
    for (int p = 0; p < P * R; p++) {
      STORE(t.y + p / P * t.y_row + p % P * LANES, acc[p]);
      vec apart = acc[p] - near;
      sum += apart, square += apart * apart;
    }
    t.sum[o] += sum, t.square[o] += square;
  }
}

INLINE void rows(const Pass *pass, Tile t, const int R, const int S) {
  const long width = pass->to->width;
#define DO(P, R_)                                                       \
  t.y_next = next_tile(x, width, t.y_row, P, R_, 1);                    \
  t.addend_next = next_tile(x, width, t.addend_row, P, R_, 1);          \
  tile(pass, t, P, R_, S), t.band += P * S * LANES, t.y += P * LANES, t.addend += P * LANES
  ACROSS(width, R, DO)
#undef DO
}

INLINE void convolve(const Pass *pass, int part, int parts, const int S) {
  const Layer *layer = pass->layer;
  const Map *from = pass->from, *to = pass->to, *beside = pass->beside ? pass->beside : to;
  const long row = band_row(layer->inputs, from->width), most = band_rows(layer->inputs, from->width, to->height, S);
  float *scratch = pass->scratch + part * pass->room, *band = scratch + 2 * layer->outputs * LANES;
  vec *sum = (vec *)scratch, *square = sum + layer->outputs;
  double *totals = pass->sums + 2 * layer->outputs * part;
  memset(totals, 0, sizeof(double) * 2 * layer->outputs);
  zero_columns(band, most * S + 2, layer->inputs, from->width);
  const long blocks = blocks_of(pass);
  for (long block = first_of(blocks, part, parts); block < first_of(blocks, part + 1, parts); block++) {
    const vec live = lanes_of(pass, block);
    memset(sum, 0, sizeof(vec) * 2 * layer->outputs);
    for (long top = 0, count; top < to->height; top += count) {
      count = to->height - top < most ? to->height - top : most;
      const long kept = top ? 3 - S : 0; /* rows shared with the previous band */
      memmove(band, band + most * S * row, sizeof(float) * kept * row);
      FILL(band, activations, top * S - 1, kept, (count - 1) * S + 3, row);
      for (long y = 0, two; y < count; y += 1 + two) {
        two = to->width < TILE && y + 1 < count;
        Tile t = {band + y * S * row, row_of(to, to->x, block, top + y, layer->first),
                  row_of(beside, beside->x, block, top + y, 0), row * S, to->channels * to->width * LANES,
                  beside->channels * to->width * LANES, 0, 0, live, sum, square};
        if (two)
          rows(pass, t, 2, S);
        else
          rows(pass, t, 1, S);
      }
    }
    for (long o = 0; o < layer->outputs; o++)
      totals[o] += across(sum[o]), totals[layer->outputs + o] += across(square[o]);
  }
}

void forward(void *argument, int part, int parts) {
  const Pass *pass = argument;
  if (pass->layer->stride == 1)
    convolve(pass, part, parts, 1);
  else
    convolve(pass, part, parts, 2);
}
