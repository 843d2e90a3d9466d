/* Winograd convolution of a layer that keeps most of its weights, in the layout of the sparse engine.

   With LANES images side by side a transformation is sums of vectors, with nothing to rearrange, and each of the 36
   products is one of matrices: filters [results][channels] by patches [channels][tile, lane]. Some rows of tiles of one
   block of images are done together, so that their patches stay in the second cache:
   patches, gradients [36][channel][tile][lane] (each of the 36 is a little longer than it holds: at a distance of 4096
   bytes all would fall on the same lines of the first cache), filters as in winograd.h. */

#pragma once

#include "sparse_band.h"
#include "winograd.h"

#ifndef TOGETHER
#define TOGETHER (44 << 10) /* most floats of the patches held at a time, unless one row of tiles needs more */
#endif
#define CHUNK 16 /* results that are multiplied before they are transformed back */
#define ROWS 8 /* of a register block of a product: as many accumulators hide its latency */

/* What is done together. */
typedef struct {
  long across, down; /* tiles */
  long places;       /* numbers of a channel: tiles times lanes */
} Tiles;

INLINE Tiles tiles_of(const Layer *layer, const Map *map) {
  const long across = map->width / SIDE, widest = layer->inputs > layer->outputs ? layer->inputs : layer->outputs;
  const long fits = TOGETHER / (PLACES * widest * across * LANES), all = map->height / SIDE;
  const long down = fits < 1 ? 1 : fits < all ? fits : all;
  return (Tiles){across, down, across * down * LANES};
}

INLINE long step_of(const Tiles *tiles, long channels) { return channels * tiles->places + 16; }

/* B' d B of a band whose first row is the one above the tiles. `strip`: 6 (width + 2) vectors to work in. */
INLINE void transform_patches(const float *band, long row, long channels, Tiles tiles, long down, float *strip,
                              float *to) {
  const long width = tiles.across * SIDE + 2, step = step_of(&tiles, channels);
  for (long c = 0; c < channels; c++)
    for (long y = 0; y < down; y++) {
      const float *corner = band + y * SIDE * row + c * width * LANES;
      for (long x = 0; x < width; x++) {
        vec d[REACH];
        for (int i = 0; i < REACH; i++) d[i] = LOAD(corner + i * row + x * LANES);
        forward_patch(d);
        for (int i = 0; i < REACH; i++) STORE(strip + (i * width + x) * LANES, d[i]);
      }
      for (long x = 0; x < tiles.across; x++) {
        float *out = to + c * tiles.places + (y * tiles.across + x) * LANES;
        for (int i = 0; i < REACH; i++) {
          vec d[REACH];
          for (int j = 0; j < REACH; j++) d[j] = LOAD(strip + (i * width + SIDE * x + j) * LANES);
          forward_patch(d);
          for (int j = 0; j < REACH; j++, out += step) STORE(out, d[j]);
        }
      }
    }
}

/* A dy A' of a band of gradients. */
INLINE void transform_gradients(const float *band, long row, long channels, Tiles tiles, long down, float *to) {
  const long width = tiles.across * SIDE + 2, step = step_of(&tiles, channels);
  for (long c = 0; c < channels; c++)
    for (long tile = 0; tile < down * tiles.across; tile++) {
      const long y = tile / tiles.across * SIDE + 1, x = tile % tiles.across * SIDE + 1;
      const float *corner = band + y * row + (c * width + x) * LANES;
      vec q[REACH][SIDE];
      for (int j = 0; j < SIDE; j++) {
        vec dy[SIDE], m[REACH];
        for (int i = 0; i < SIDE; i++) dy[i] = LOAD(corner + i * row + j * LANES);
        forward_gradient(dy, m);
        for (int i = 0; i < REACH; i++) q[i][j] = m[i];
      }
      float *out = to + c * tiles.places + tile * LANES;
      for (int i = 0; i < REACH; i++) {
        vec m[REACH];
        forward_gradient(q[i], m);
        for (int j = 0; j < REACH; j++, out += step) STORE(out, m[j]);
      }
    }
}

/* A' m A of one tile of one result. */
INLINE void transform_back(const float *products, long step, vec y[SIDE][SIDE]) {
  vec p[SIDE][REACH];
  for (int j = 0; j < REACH; j++) {
    vec m[REACH], column[SIDE];
    for (int i = 0; i < REACH; i++) m[i] = LOAD(products + (REACH * i + j) * step);
    back(m, column);
    for (int i = 0; i < SIDE; i++) p[i][j] = column[i];
  }
  for (int i = 0; i < SIDE; i++) back(p[i], y[i]);
}

/* CHUNK results from result `first` on, at `count` numbers of each channel. */
INLINE void multiply(const float *filters, const float *patches, Tiles tiles, long count, long channels, long results,
                     long first, float *products) {
  const long step = step_of(&tiles, channels), out = step_of(&tiles, CHUNK);
  for (int p = 0; p < PLACES; p++, filters += channels * results, patches += step, products += out)
    for (long k = 0; k < CHUNK; k += ROWS)
      for (long at = 0; at < count; at += LANES) {
        const float *filter = filters + (first + k) / LANES * channels * LANES + (first + k) % LANES;
        const float *patch = patches + at;
        vec sums[ROWS];
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) sums[i] = (vec){0};
        for (long c = 0; c < channels; c++, filter += LANES, patch += tiles.places) {
          const vec met = LOAD(patch);
#pragma GCC unroll 16
          for (int i = 0; i < ROWS; i++) sums[i] += filter[i / LANES * channels * LANES + i % LANES] * met;
        }
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) STORE(products + (k + i) * tiles.places + at, sums[i]);
      }
}

/* Numbers of two vectors, by constant places: those of the second follow those of the first. */
#ifdef __clang__
#define SHUFFLED(A, B, ...) __builtin_shufflevector(A, B, __VA_ARGS__)
#else
#define SHUFFLED(A, B, ...) __builtin_shuffle(A, B, (whole){__VA_ARGS__})
#endif

/* Vectors i and i + apart exchange the blocks of `apart` lanes that lie across the diagonal. */
#define EXCHANGE(APART, UPPER, LOWER)                                                       \
  for (int i = 0; i < LANES; i++) {                                                         \
    if (i & APART) continue;                                                                \
    const vec a = rows[i], b = rows[i + APART];                                             \
    rows[i] = SHUFFLED(a, b, UPPER), rows[i + APART] = SHUFFLED(a, b, LOWER);               \
  }
#define LIST(...) __VA_ARGS__

/* Lane i of vector j becomes lane j of vector i. */
INLINE void transpose(vec rows[LANES]) {
#if LANES == 4
  EXCHANGE(1, LIST(0, 4, 2, 6), LIST(1, 5, 3, 7))
  EXCHANGE(2, LIST(0, 1, 4, 5), LIST(2, 3, 6, 7))
#elif LANES == 8
  EXCHANGE(1, LIST(0, 8, 2, 10, 4, 12, 6, 14), LIST(1, 9, 3, 11, 5, 13, 7, 15))
  EXCHANGE(2, LIST(0, 1, 8, 9, 4, 5, 12, 13), LIST(2, 3, 10, 11, 6, 7, 14, 15))
  EXCHANGE(4, LIST(0, 1, 2, 3, 8, 9, 10, 11), LIST(4, 5, 6, 7, 12, 13, 14, 15))
#else
  EXCHANGE(1, LIST(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
           LIST(1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
  EXCHANGE(2, LIST(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
           LIST(2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
  EXCHANGE(4, LIST(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
           LIST(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
  EXCHANGE(8, LIST(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
           LIST(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
#endif
}

/* sums [36][result][channel] += gradients by patches, over tiles and lanes. `turned`: patches of one place to work in,
   with the channels innermost, since the lanes are summed over. */
INLINE void multiply_and_add(const float *patches, const float *gradients, Tiles tiles, long count, long channels,
                             long results, float *turned, float *sums) {
  const long step = step_of(&tiles, channels), other = step_of(&tiles, results);
  for (int p = 0; p < PLACES; p++, patches += step, gradients += other, sums += channels * results) {
    for (long c = 0; c < channels; c += LANES)
      for (long at = 0; at < count; at += LANES) {
        vec rows[LANES];
        for (int i = 0; i < LANES; i++) rows[i] = LOAD(patches + (c + i) * tiles.places + at);
        transpose(rows);
        for (int i = 0; i < LANES; i++) STORE(turned + (at + i) * channels + c, rows[i]);
      }
    for (long c = 0; c < channels; c += LANES)
      for (long k = 0; k < results; k += ROWS) {
        const float *these = gradients + k * tiles.places, *patch = turned + c;
        float *to = sums + k * channels + c;
        vec block[ROWS];
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) block[i] = LOAD(to + i * channels);
        for (long n = 0; n < count; n++, patch += channels) {
          const vec met = LOAD(patch);
#pragma GCC unroll 16
          for (int i = 0; i < ROWS; i++) block[i] += these[i * tiles.places + n] * met;
        }
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) STORE(to + i * channels, block[i]);
      }
  }
}
