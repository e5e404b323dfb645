/* scorer.c: how likely a model finds each of several continuations of one context.
 *
 *   scorer MODEL CONTEXT CONTINUATION...
 *
 * Prints a line for each: the sum of the log-probabilities of its tokens, their number, how many tokens of the text the
 * session already held, and "greedy" if the model would have chosen exactly these tokens.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "finermoe.h"

static int ok(finermoe_status status) { return status == FINERMOE_OK; }

/* Tokens of the context followed by a continuation. The two are encoded as one text, since a token may span the
 * boundary; such a token belongs to the continuation. */
struct text {
  int32_t* ids;
  uint64_t* offsets; /* begin and end byte of each token */
  size_t n, n_context;
};

static int encode(finermoe_tokenizer* tokenizer, const char* context, const char* continuation, struct text* text,
                  finermoe_error** error) {
  const size_t n_context = strlen(context), n_continuation = strlen(continuation), n = n_context + n_continuation;
  char* whole = malloc(n + 1);
  if (whole == NULL) return 0;
  memcpy(whole, context, n_context);
  memcpy(whole + n_context, continuation, n_continuation + 1);

  /* The context may contain a chat's special tokens. */
  const uint32_t flags = FINERMOE_TEXT_PARSE_SPECIAL;
  int fine = ok(finermoe_tokenizer_count(tokenizer, whole, n, flags, &text->n, error));
  if (fine) {
    text->ids = calloc(text->n + 1, sizeof *text->ids);
    text->offsets = calloc(2 * text->n + 1, sizeof *text->offsets);
    fine = text->ids != NULL && text->offsets != NULL &&
           ok(finermoe_tokenizer_encode(tokenizer, whole, n, flags, text->ids, text->offsets, text->n, NULL, error));
  }
  free(whole);
  for (text->n_context = 0; fine && text->n_context < text->n; ++text->n_context) {
    if (text->offsets[2 * text->n_context + 1] > n_context) break;
  }
  return fine;
}

/* Leaves the tokens of the context and the continuation in the session, reusing what it held of the context. */
static int score(finermoe_session* session, const struct text* text, finermoe_error** error) {
  const size_t n_scored = text->n - text->n_context;
  float* logprobs = calloc(n_scored + 1, sizeof *logprobs);
  int32_t* likeliest = calloc(n_scored + 1, sizeof *likeliest);
  size_t n_kept = 0;
  int fine = logprobs != NULL && likeliest != NULL &&
             ok(finermoe_session_keep_prefix(session, text->ids, text->n_context, &n_kept, error)) &&
             ok(finermoe_session_append(session, text->ids + n_kept, text->n_context - n_kept, FINERMOE_LOGITS_NONE,
                                        NULL, error)) &&
             ok(finermoe_session_score(session, text->ids + text->n_context, n_scored, NULL, logprobs, likeliest,
                                       n_scored, NULL, error));
  double sum = 0;
  int greedy = 1;
  for (size_t i = 0; fine && i < n_scored; ++i) {
    sum += logprobs[i]; /* without a context, the first token has none: NaN */
    greedy = greedy && likeliest[i] == text->ids[text->n_context + i];
  }
  if (fine) printf("%.4f, %zu tokens, %zu kept%s\n", sum, n_scored, n_kept, greedy ? ", greedy" : "");
  free(likeliest);
  free(logprobs);
  return fine;
}

int main(int argc, char** argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: scorer MODEL CONTEXT CONTINUATION...\n");
    return EXIT_FAILURE;
  }
  finermoe_model* model = NULL;
  finermoe_tokenizer* tokenizer = NULL;
  finermoe_session* session = NULL;
  finermoe_error* error = NULL;
  int fine = ok(finermoe_model_open(argv[1], NULL, &model, &error)) &&
             ok(finermoe_tokenizer_open_model(model, &tokenizer, &error)) &&
             ok(finermoe_session_create(model, NULL, &session, &error));
  for (int i = 3; fine && i < argc; ++i) {
    struct text text = {NULL, NULL, 0, 0};
    fine = encode(tokenizer, argv[2], argv[i], &text, &error) && score(session, &text, &error);
    free(text.offsets);
    free(text.ids);
  }
  if (!fine) fprintf(stderr, "scorer: %s\n", error != NULL ? finermoe_error_message(error) : "out of memory");

  finermoe_error_free(error);
  finermoe_session_free(session);
  finermoe_tokenizer_free(tokenizer);
  finermoe_model_free(model);
  return fine ? EXIT_SUCCESS : EXIT_FAILURE;
}
