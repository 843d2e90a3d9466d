/* A dense convolution of the sparse engine, forward and backward, by Winograd's F(4x4, 3x3): see sparse_winograd.h. */

#include "sparse_winograd.h"

/* Where a part works. */
typedef struct {
  Tiles tiles;
  long row, dy_row; /* distances of a row of the bands */
  float *first, *second; /* vectors: sums of each channel */
  float *band, *dy, *strip, *patches, *gradients, *products, *turned;
  long floats;
} Room;

static Room room_of(const Layer *layer, const Map *map, float *at) {
  const Tiles tiles = tiles_of(layer, map);
  const long widest = layer->inputs > layer->outputs ? layer->inputs : layer->outputs, rows = tiles.down * SIDE + 2;
  Room room = {.tiles = tiles, .row = band_row(layer->inputs, map->width), .dy_row = band_row(layer->outputs, map->width)};
  float *begin = at;
  room.first = at, at += widest * LANES;
  room.second = at, at += widest * LANES;
  room.band = at, at += rows * room.row;
  room.dy = at, at += rows * room.dy_row;
  room.strip = at, at += REACH * (map->width + 2) * LANES;
  room.patches = at, at += PLACES * step_of(&tiles, widest);
  room.gradients = at, at += PLACES * step_of(&tiles, widest);
  room.products = at, at += PLACES * step_of(&tiles, CHUNK);
  room.turned = at, at += tiles.places * layer->inputs;
  room.floats = at - begin;
  return room;
}

long winograd_room(const Network *network, const Layer *layer) {
  return room_of(layer, network->maps + layer->to, (float *)0).floats;
}

/* Filters of one layer, and those of the gradient, from the parameters. */
void winograd_filters(const Layer *layer, const float *parameters, int part, int parts) {
  const float *weights = parameters + layer->weight;
  transform_filters(weights, layer->filters, layer->inputs, layer->outputs, part, parts, 0);
  if (layer->turned_filters)
    transform_filters(weights, layer->turned_filters, layer->outputs, layer->inputs, part, parts, 1);
}

/* A tile of a result: what is added to it, statistics, and where it goes. */
INLINE void finish_result(const Pass *pass, vec y[SIDE][SIDE], long block, long row, long column, long o, vec live,
                          vec start, vec *sum, vec *square) {
  const Map *to = pass->to, *beside = pass->beside;
  const long first = pass->layer->first;
  const vec near = live * to->mean[first + o];
  for (int i = 0; i < SIDE; i++) {
    float *out = row_of(to, to->x, block, row + i, first + o) + column * LANES;
    const float *addend = beside ? row_of(beside, beside->x, block, row + i, o) + column * LANES : NULL;
    for (int j = 0; j < SIDE; j++) {
      const vec value = y[i][j] + (addend ? LOAD(addend + j * LANES) : start), apart = value - near;
      STORE(out + j * LANES, value);
      *sum += apart, *square += apart * apart;
    }
  }
}

void winograd_forward(void *argument, int part, int parts) {
  const Pass *pass = argument;
  const Layer *layer = pass->layer;
  const Map *to = pass->to;
  const Room room = room_of(layer, to, pass->scratch + part * pass->room);
  const Tiles tiles = room.tiles;
  const long row = room.row, most = tiles.down * SIDE, out = step_of(&tiles, CHUNK), blocks = blocks_of(pass);
  const float *bias = layer->bias < 0 ? NULL : pass->call->parameters + layer->bias;
  vec *sum = (vec *)room.first, *square = (vec *)room.second;
  double *totals = pass->sums + 2 * layer->outputs * part;
  memset(totals, 0, sizeof(double) * 2 * layer->outputs);
  zero_columns(room.band, most + 2, layer->inputs, to->width);
  for (long block = first_of(blocks, part, parts); block < first_of(blocks, part + 1, parts); block++) {
    const vec live = lanes_of(pass, block);
    memset(sum, 0, sizeof(vec) * layer->outputs), memset(square, 0, sizeof(vec) * layer->outputs);
    for (long top = 0, count; top < to->height; top += count) {
      count = to->height - top < most ? to->height - top : most;
      const long kept = top ? 2 : 0, down = count / SIDE;
      memmove(room.band, room.band + most * row, sizeof(float) * kept * row);
      FILL(room.band, activations, top - 1, kept, count + 2, row);
      transform_patches(room.band, row, layer->inputs, tiles, down, room.strip, room.patches);
      for (long first = 0; first < layer->outputs; first += CHUNK) {
        multiply(layer->filters, room.patches, tiles, down * tiles.across * LANES, layer->inputs, layer->outputs, first,
                 room.products);
        for (long o = first; o < first + CHUNK; o++)
          for (long tile = 0; tile < down * tiles.across; tile++) {
            vec y[SIDE][SIDE];
            transform_back(room.products + (o - first) * tiles.places + tile * LANES, out, y);
            finish_result(pass, y, block, top + tile / tiles.across * SIDE, tile % tiles.across * SIDE, o, live,
                          live * (bias ? bias[o] : 0.0f), sum + o, square + o);
          }
      }
    }
    for (long o = 0; o < layer->outputs; o++)
      totals[o] += across(sum[o]), totals[layer->outputs + o] += across(square[o]);
  }
}

/* A tile of the input's gradient: through ReLU and norm, with the norm's two sums. */
INLINE void finish_input(const Pass *pass, vec y[SIDE][SIDE], long block, long row, long column, long c, vec live,
                         vec *sum, vec *product) {
  const Map *from = pass->from;
  const Norm *norm = pass->norm;
  vec slope = {0}, shift = {0}, mean = {0};
  if (norm) slope = live * norm->slope[c], shift = live * norm->shift[c], mean = all(from->mean[c]);
  for (int i = 0; i < SIDE; i++) {
    const float *x = row_of(from, from->x, block, row + i, c) + column * LANES;
    float *g = row_of(from, from->g, block, row + i, c) + column * LANES;
    for (int j = 0; j < SIDE; j++, x += LANES, g += LANES) {
      vec given = y[i][j];
      if (norm) {
        const vec value = LOAD(x), behind = where(slope * value + shift > 0, given);
        *sum += behind, *product += behind * (value - mean);
        given = slope * behind;
      }
      if (pass->layer->adds) given += LOAD(g);
      STORE(g, given);
    }
  }
}

void winograd_backward(void *argument, int part, int parts) {
  const Pass *pass = argument;
  const Layer *layer = pass->layer;
  const Map *to = pass->to;
  const Room room = room_of(layer, to, pass->scratch + part * pass->room);
  const Tiles tiles = room.tiles;
  const long row = room.row, dy_row = room.dy_row, most = tiles.down * SIDE, out = step_of(&tiles, CHUNK);
  const long blocks = blocks_of(pass), filters = layer->inputs * layer->outputs;
  float *weights = layer->products + PLACES * filters * part;
  vec *sum = (vec *)room.first, *product = (vec *)room.second;
  double *totals = pass->sums + 2 * layer->inputs * part;
  memset(totals, 0, sizeof(double) * 2 * layer->inputs);
  memset(weights, 0, sizeof(float) * PLACES * filters);
  zero_columns(room.band, most + 2, layer->inputs, to->width);
  zero_columns(room.dy, most + 2, layer->outputs, to->width);
  for (long block = first_of(blocks, part, parts); block < first_of(blocks, part + 1, parts); block++) {
    const vec live = lanes_of(pass, block);
    memset(sum, 0, sizeof(vec) * layer->inputs), memset(product, 0, sizeof(vec) * layer->inputs);
    for (long top = 0, count; top < to->height; top += count) {
      count = to->height - top < most ? to->height - top : most;
      const long kept = top ? 2 : 0, down = count / SIDE, places = down * tiles.across * LANES;
      memmove(room.band, room.band + most * row, sizeof(float) * kept * row);
      memmove(room.dy, room.dy + most * dy_row, sizeof(float) * kept * dy_row);
      FILL(room.band, activations, top - 1, kept, count + 2, row);
      FILL(room.dy, gradients, top - 1, kept, count + 2, dy_row);
      transform_patches(room.band, row, layer->inputs, tiles, down, room.strip, room.patches);
      transform_gradients(room.dy, dy_row, layer->outputs, tiles, down, room.gradients);
      multiply_and_add(room.patches, room.gradients, tiles, places, layer->inputs, layer->outputs, room.turned, weights);
      if (!layer->wanted) continue;
      transform_patches(room.dy, dy_row, layer->outputs, tiles, down, room.strip, room.patches);
      for (long first = 0; first < layer->inputs; first += CHUNK) {
        multiply(layer->turned_filters, room.patches, tiles, places, layer->outputs, layer->inputs, first, room.products);
        for (long c = first; c < first + CHUNK; c++)
          for (long tile = 0; tile < down * tiles.across; tile++) {
            vec y[SIDE][SIDE];
            transform_back(room.products + (c - first) * tiles.places + tile * LANES, out, y);
            finish_input(pass, y, block, top + tile / tiles.across * SIDE, tile % tiles.across * SIDE, c, live, sum + c,
                         product + c);
          }
      }
    }
    for (long c = 0; c < layer->inputs; c++)
      totals[c] += across(sum[c]), totals[layer->inputs + c] += across(product[c]);
  }
}

/* G' m G of the sums of all parts: gradients of the kept weights. */
void winograd_collect(void *argument, int part, int parts) {
  const Pass *pass = argument;
  const Layer *layer = pass->layer;
  const long channels = layer->inputs, step = channels * layer->outputs;
  float *found = pass->scratch + part * pass->room; /* (9, channels) of one result */
  for (long o = first_of(layer->outputs, part, parts); o < first_of(layer->outputs, part + 1, parts); o++) {
    for (long c = 0; c < channels; c += LANES) {
      vec t[REACH][3], g[3];
      for (int j = 0; j < REACH; j++) {
        vec m[REACH];
        for (int i = 0; i < REACH; i++) {
          const float *sums = layer->products + (REACH * i + j) * step + o * channels + c;
          m[i] = LOAD(sums);
          for (int other = 1; other < parts; other++) m[i] += LOAD(sums + PLACES * step * other);
        }
        back_to_filter(m, t[j]);
      }
      for (int i = 0; i < 3; i++) {
        vec m[REACH];
        for (int j = 0; j < REACH; j++) m[j] = t[j][i];
        back_to_filter(m, g);
        for (int j = 0; j < 3; j++) STORE(found + (3 * i + j) * channels + c, g[j]);
      }
    }
    float *gradient = pass->network->gradient + layer->slot;
    for (long k = layer->begin[o]; k < layer->begin[o + 1]; k++) {
      const long place = layer->place[k] - layer->weight - 9 * o * channels;
      gradient[k] = found[place % 9 * channels + place / 9];
    }
  }
}
