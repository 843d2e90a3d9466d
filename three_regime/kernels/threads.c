/* Run on the threads of torch's OpenMP, whose functions are passed in, so no second team competes with them. */

#include "common.h"

#include <stdio.h>
#include <stdlib.h>

static void (*start_team)(void (*)(void *), void *, unsigned, unsigned);
static int (*team_member)(void), (*team_size)(void);

void connect_threads(void (*start)(void (*)(void *), void *, unsigned, unsigned), int (*member)(void),
                     int (*size)(void)) {
  start_team = start, team_member = member, team_size = size;
}

typedef struct {
  Work *work;
  void *job;
  int parts;
} Shared;

static void run_parts(void *argument) {
  const Shared *shared = argument;
  for (int part = team_member(), size = team_size(); part < shared->parts; part += size)
    shared->work(shared->job, part, shared->parts);
}

void share(Work *work, void *job, int parts) {
  Shared shared = {work, job, parts};
  if (parts > 1)
    start_team(run_parts, &shared, parts, 0);
  else
    work(job, 0, 1);
}

void *allocate(size_t bytes) {
  void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!memory) {
    fprintf(stderr, "three_regime: out of memory\n");
    abort();
  }
  return memory;
}
