/* routing.c: what the model computed for the last token of a text: the likeliest next ids, and the experts that the
 * router of each layer chose.
 *
 *   routing MODEL ID...
 */
#include <stdio.h>
#include <stdlib.h>

#include "finermoe.h"

enum { TOP = 5 };

static int print_top(finermoe_session* session, finermoe_error** error) {
  size_t n = 0; /* asked for first: a NULL buffer gets only the size */
  finermoe_session_logits(session, 0, NULL, 0, &n, NULL);
  float* logits = malloc((n + 1) * sizeof *logits);
  if (logits == NULL) return 0;
  const int ok = finermoe_session_logits(session, 0, logits, n, &n, error) == FINERMOE_OK;
  for (int rank = 0; ok && rank < TOP && (size_t)rank < n; ++rank) {
    size_t best = 0;
    for (size_t id = 1; id < n; ++id) best = logits[id] > logits[best] ? id : best;
    printf("%zu %.4f\n", best, logits[best]);
    logits[best] = -1e30F; /* the next rank looks past it */
  }
  free(logits);
  return ok;
}

static int print_experts(finermoe_trace* trace, finermoe_error** error) {
  finermoe_trace_info info = {.struct_size = sizeof info};
  if (finermoe_trace_get_info(trace, &info, error) != FINERMOE_OK) return 0;
  const size_t k = info.n_experts_per_token, n = info.n_tokens * k; /* [n_tokens, k], the last row is the last token */
  size_t* layers = calloc(info.n_moe_layers + 1, sizeof *layers);
  int32_t* experts = calloc(n + 1, sizeof *experts);
  float* weights = calloc(n + 1, sizeof *weights);
  int ok = layers && experts && weights &&
           finermoe_trace_layers(trace, layers, info.n_moe_layers, NULL, error) == FINERMOE_OK;
  for (size_t i = 0; ok && i < info.n_moe_layers; ++i) {
    ok = finermoe_trace_experts(trace, i, experts, n, NULL, error) == FINERMOE_OK &&
         finermoe_trace_weights(trace, i, weights, n, NULL, error) == FINERMOE_OK;
    if (!ok) break;
    printf("layer %zu:", layers[i]);
    for (size_t j = n - k; j < n; ++j) printf(" expert %d (%.4f)", (int)experts[j], weights[j]);
    putchar('\n');
  }
  free(layers);
  free(experts);
  free(weights);
  return ok;
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: routing MODEL ID...\n");
    return EXIT_FAILURE;
  }
  const size_t n_ids = (size_t)argc - 2;
  int32_t* ids = calloc(n_ids, sizeof *ids);
  if (ids == NULL) return EXIT_FAILURE;
  for (size_t i = 0; i < n_ids; ++i) ids[i] = (int32_t)strtol(argv[i + 2], NULL, 10);

  finermoe_model* model = NULL;
  finermoe_session* session = NULL;
  finermoe_trace* trace = NULL;
  finermoe_error* error = NULL;
  const int ok = finermoe_model_open(argv[1], NULL, &model, &error) == FINERMOE_OK &&
                 finermoe_session_create(model, NULL, &session, &error) == FINERMOE_OK &&
                 finermoe_trace_create(model, FINERMOE_TRACE_ROUTES, &trace, &error) == FINERMOE_OK &&
                 finermoe_session_set_trace(session, trace, &error) == FINERMOE_OK &&
                 finermoe_session_append(session, ids, n_ids, FINERMOE_LOGITS_LAST, NULL, &error) == FINERMOE_OK &&
                 print_top(session, &error) && print_experts(trace, &error);
  if (!ok) {
    fprintf(stderr, "routing: %s\n", error != NULL ? finermoe_error_message(error) : "out of memory");
  }

  finermoe_error_free(error);
  finermoe_trace_free(trace);
  finermoe_session_free(session);
  finermoe_model_free(model);
  free(ids);
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
