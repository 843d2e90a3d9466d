/* Bands: prepared inputs of a convolution, either normalised and rectified, or an assembled gradient. */

#pragma once

#include "sparse.h"

#include <string.h>

INLINE void zero_columns(float *band, long rows, long channels, long width) {
  for (long line = 0; line < rows * channels; line++, band += (width + 2) * LANES) {
    STORE(band, (vec){0});
    STORE(band + (width + 1) * LANES, (vec){0});
  }
}

/* A row of the layer's input, after norm and ReLU if it has a norm. */
INLINE void activations(const Pass *pass, long block, long row, vec live, float *to) {
  const Map *map = pass->from;
  const long channels = pass->layer->inputs, width = map->width;
  if (row < 0 || row >= map->height) {
    memset(to, 0, sizeof(float) * band_row(channels, width));
    return;
  }
  const float *from = row_of(map, map->x, block, row, 0);
  for (long c = 0; c < channels; c++, to += (width + 2) * LANES, from += width * LANES) {
    if (!pass->norm) {
      memcpy(to + LANES, from, sizeof(float) * width * LANES);
      continue;
    }
    const vec slope = live * pass->norm->slope[c], shift = live * pass->norm->shift[c];
#pragma GCC unroll 8
    for (long x = 0; x < width; x++) STORE(to + (x + 1) * LANES, rectified(slope * LOAD(from + x * LANES) + shift));
  }
}

/* A row of the gradient of the layer's result. */
INLINE void gradients(const Pass *pass, long block, long row, vec live, float *to) {
  const Map *map = pass->to;
  const long channels = pass->layer->outputs, first = pass->layer->first, width = map->width;
  if (row < 0 || row >= map->height) {
    memset(to, 0, sizeof(float) * band_row(channels, width));
    return;
  }
  float *g = row_of(map, map->g, block, row, first);
  const float *y = row_of(map, map->x, block, row, first);
  for (long c = 0; c < channels; c++, to += (width + 2) * LANES, g += width * LANES, y += width * LANES) {
    if (!map->normed) {
      memcpy(to + LANES, g, sizeof(float) * width * LANES);
      continue;
    }
    const vec third = all(map->third[first + c]), fourth = live * map->fourth[first + c];
    if (pass->layer->keeps) {
#pragma GCC unroll 8
      for (long x = 0; x < width; x++) {
        vec dy = LOAD(g + x * LANES) + (third * LOAD(y + x * LANES) + fourth);
        STORE(to + (x + 1) * LANES, dy);
        STORE(g + x * LANES, dy);
      }
    } else {
#pragma GCC unroll 8
      for (long x = 0; x < width; x++)
        STORE(to + (x + 1) * LANES, LOAD(g + x * LANES) + (third * LOAD(y + x * LANES) + fourth));
    }
  }
}

/* Fill rows `from` … `end` of a band whose row 0 is row `top` of the map. */
#define FILL(BAND, MAKE, TOP, FROM, END, ROW) \
  for (long r_ = FROM; r_ < END; r_++) MAKE(pass, block, TOP + r_, live, BAND + r_ * ROW)

/* acc += sum of weights times inputs, for P columns (`step` apart) and R rows (`row` apart). */
INLINE void gather(const float *in, long row, const int *at, const float *weights, long count, vec *acc, const int P,
                   const int R, const int step) {
  for (long k = 0; k < count; k++) {
    const float *here = in + at[k];
    const vec weight = all(weights[k]);
#pragma GCC unroll 16
    for (int p = 0; p < P * R; p++) acc[p] += weight * LOAD(here + p / P * row + p % P * step * LANES);
  }
}

/* sums += products of gradients and inputs, for each weight. */
INLINE void correlate(const float *in, long row, const int *at, const vec *dy, long count, float *sums, const int P,
                      const int R, const int step) {
  for (long k = 0; k < count; k++, sums += LANES) {
    const float *here = in + at[k];
    vec sum[2] = {LOAD(sums), {0}};
#pragma GCC unroll 16
    for (int p = 0; p < P * R; p++) sum[p % 2] += dy[p] * LOAD(here + p / P * row + p % P * step * LANES);
    STORE(sums, sum[0] + sum[1]);
  }
}
