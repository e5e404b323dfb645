/* What a generated token and a row of logits cost in C, for bench/bindings.py to compare the bindings with:
 * bindings-c MODEL N_TOKENS REPEATS
 *
 * Prints one line of JSON: {"seconds_per_token": [one per repeat], "seconds_per_logits_row": [...]}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "finermoe.h"

static void check(finermoe_status status, finermoe_error* error) {
  if (status == FINERMOE_OK) return;
  fprintf(stderr, "bindings-c: %s\n", finermoe_error_message(error));
  exit(1);
}
#define CHECK(call)               \
  do {                            \
    finermoe_error* error = NULL; \
    check((call), error);         \
  } while (0)

static double now(void) {
  struct timespec time;
  timespec_get(&time, TIME_UTC);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static finermoe_model* open_on_one_thread(const char* path) {
  finermoe_runtime_options* runtime_options;
  finermoe_runtime* runtime;
  finermoe_model_options* options;
  finermoe_model* model;
  CHECK(finermoe_runtime_options_create(&runtime_options, &error));
  CHECK(finermoe_runtime_options_set_threads(runtime_options, 1, &error));
  CHECK(finermoe_runtime_create(runtime_options, &runtime, &error));
  CHECK(finermoe_model_options_create(&options, &error));
  CHECK(finermoe_model_options_set_runtime(options, runtime, &error));
  CHECK(finermoe_model_open(path, options, &model, &error));
  finermoe_model_options_free(options);
  finermoe_runtime_free(runtime);
  finermoe_runtime_options_free(runtime_options);
  return model;
}

static double seconds_per_token(finermoe_model* model, size_t n_tokens) {
  static const char prompt[] = "A lighthouse is";
  finermoe_session* session;
  finermoe_generation_options* options;
  finermoe_generation* generation;
  finermoe_event event = {.struct_size = sizeof event};
  CHECK(finermoe_session_create(model, NULL, &session, &error));
  CHECK(finermoe_generation_options_create(model, &options, &error));
  CHECK(finermoe_generation_options_set_ignore_eos(options, 1, &error));
  CHECK(finermoe_generation_options_set_max_tokens(options, n_tokens, &error));
  CHECK(finermoe_generation_create_text(session, options, prompt, strlen(prompt), 0, &generation, &error));
  const double begin = now();
  size_t n = 0;
  do {
    CHECK(finermoe_generation_next(generation, NULL, &event, &error));
    n++;
  } while (event.finish_reason == FINERMOE_FINISH_NONE);
  const double seconds = (now() - begin) / (double)n;
  finermoe_generation_free(generation);
  finermoe_generation_options_free(options);
  finermoe_session_free(session);
  return seconds;
}

static double seconds_per_logits_row(finermoe_model* model) {
  enum { reads = 1000 };
  static const int32_t ids[] = {1};
  finermoe_session* session;
  size_t n_logits = 0;
  CHECK(finermoe_session_create(model, NULL, &session, &error));
  CHECK(finermoe_session_append(session, ids, 1, FINERMOE_LOGITS_LAST, NULL, &error));
  finermoe_session_logits(session, 0, NULL, 0, &n_logits, NULL);
  float* logits = malloc(n_logits * sizeof *logits);
  const double begin = now();
  for (int i = 0; i < reads; i++) CHECK(finermoe_session_logits(session, 0, logits, n_logits, NULL, &error));
  const double seconds = (now() - begin) / reads;
  free(logits);
  finermoe_session_free(session);
  return seconds;
}

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: bindings-c MODEL N_TOKENS REPEATS\n");
    return 2;
  }
  finermoe_model* model = open_on_one_thread(argv[1]);
  const size_t n_tokens = strtoul(argv[2], NULL, 10);
  const int repeats = atoi(argv[3]);
  printf("{\"seconds_per_token\": [");
  for (int i = 0; i < repeats; i++) printf("%s%.9f", i > 0 ? ", " : "", seconds_per_token(model, n_tokens));
  printf("], \"seconds_per_logits_row\": [");
  for (int i = 0; i < repeats; i++) printf("%s%.9f", i > 0 ? ", " : "", seconds_per_logits_row(model));
  printf("]}\n");
  finermoe_model_free(model);
  return 0;
}
