/* 2x2 pools of a map after norm and ReLU, forward and backward. */

#include "sparse_band.h"

INLINE vec pooled(const vec corner[4], int maximum) {
  if (!maximum) return (corner[0] + corner[1] + corner[2] + corner[3]) * 0.25f;
  vec best = corner[0];
  for (int i = 1; i < 4; i++) {
    whole other = (corner[i] > best) | (corner[i] != corner[i]);
    best = (vec)((other & (whole)corner[i]) | (~other & (whole)best));
  }
  return best;
}

void pool_forward(void *argument, int part, int parts) {
  const Pass *pass = argument;
  const Map *from = pass->from, *to = pass->to;
  const long below = from->channels * from->width * LANES, blocks = blocks_of(pass);
  const int maximum = pass->layer->kind == MAXIMUM;
  for (long block = first_of(blocks, part, parts); block < first_of(blocks, part + 1, parts); block++)
    for (long row = 0; row < to->height; row++)
      for (long c = 0; c < pass->layer->inputs; c++) {
        const vec live = lanes_of(pass, block), slope = live * pass->norm->slope[c], shift = live * pass->norm->shift[c];
        const float *x = row_of(from, from->x, block, 2 * row, c);
        float *y = row_of(to, to->x, block, row, c);
        for (long i = 0; i < to->width; i++, x += 2 * LANES, y += LANES) {
          const vec corner[4] = {rectified(slope * LOAD(x) + shift), rectified(slope * LOAD(x + LANES) + shift),
                                 rectified(slope * LOAD(x + below) + shift),
                                 rectified(slope * LOAD(x + below + LANES) + shift)};
          STORE(y, pooled(corner, maximum));
        }
      }
}

/* The gradient of a maximum goes to the first of equal values, as in torch. */
void pool_backward(void *argument, int part, int parts) {
  const Pass *pass = argument;
  const Layer *layer = pass->layer;
  const Map *from = pass->from, *to = pass->to;
  const long below = from->channels * from->width * LANES, blocks = blocks_of(pass);
  double *totals = pass->sums + 2 * layer->inputs * part;
  memset(totals, 0, sizeof(double) * 2 * layer->inputs);
  for (long block = first_of(blocks, part, parts); block < first_of(blocks, part + 1, parts); block++)
    for (long c = 0; c < layer->inputs; c++) {
      const vec live = lanes_of(pass, block), slope = live * pass->norm->slope[c], shift = live * pass->norm->shift[c];
      const vec mean = all(from->mean[c]);
      vec sum = {0}, product = {0};
      for (long row = 0; row < to->height; row++) {
        const float *x = row_of(from, from->x, block, 2 * row, c), *dy = row_of(to, to->g, block, row, c);
        float *g = row_of(from, from->g, block, 2 * row, c);
        for (long i = 0; i < to->width; i++, x += 2 * LANES, g += 2 * LANES, dy += LANES) {
          vec given = LOAD(dy);
          whole open = {0}; /* corners that can still be the maximum */
          open = ~open;
          vec best = {0};
          if (layer->kind == MAXIMUM) {
            const vec corner[4] = {rectified(slope * LOAD(x) + shift), rectified(slope * LOAD(x + LANES) + shift),
                                   rectified(slope * LOAD(x + below) + shift),
                                   rectified(slope * LOAD(x + below + LANES) + shift)};
            best = pooled(corner, 1);
          } else {
            given *= 0.25f;
          }
          for (int i = 0; i < 4; i++) {
            const long at = (i & 1) * LANES + (i >> 1) * below;
            const vec number = LOAD(x + at), value = slope * number + shift;
            whole takes = value > 0;
            if (layer->kind == MAXIMUM) takes &= (value == best) & open, open &= ~takes;
            const vec behind = where(takes, given);
            sum += behind, product += behind * (number - mean);
            STORE(g + at, layer->adds ? slope * behind + LOAD(g + at) : slope * behind);
          }
        }
      }
      totals[c] += across(sum), totals[layer->inputs + c] += across(product);
    }
}
