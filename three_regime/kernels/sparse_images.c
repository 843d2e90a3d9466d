/* Assemble a batch from bytes: select, crop, flip and normalise by a lookup table, directly into the first map. */

#include "sparse_band.h"

void read_images(void *argument, int part, int parts) {
  const Pass *pass = argument;
  const Call *call = pass->call;
  const Map *map = pass->network->maps;
  const long height = map->height, width = map->width, channels = map->channels, units = blocks_of(pass) * height;
  for (long unit = first_of(units, part, parts); unit < first_of(units, part + 1, parts); unit++) {
    const long block = unit / height, row = unit % height;
    float *to = row_of(map, map->x, block, row, 0);
    memset(to, 0, sizeof(float) * channels * width * LANES);
    for (int lane = 0; lane < LANES && block * LANES + lane < call->count; lane++) {
      const long at = block * LANES + lane, image = call->order ? call->order[at] : call->start + at;
      const long up = call->shifts ? call->shifts[2 * at] - call->padding : 0;
      const long aside = call->shifts ? call->shifts[2 * at + 1] - call->padding : 0;
      const int mirrored = call->flips && call->flips[at], above = row + up < 0 || row + up >= height;
      const unsigned char *from = call->pixels + (image * height + row + up) * width * channels;
      for (long x = 0; x < width; x++) {
        const long column = aside + (mirrored ? width - 1 - x : x);
        const int outside = above || column < 0 || column >= width; /* zero padding */
        for (long c = 0; c < channels; c++)
          to[(c * width + x) * LANES + lane] = call->levels[c * 256 + (outside ? 0 : from[column * channels + c])];
      }
    }
  }
}
