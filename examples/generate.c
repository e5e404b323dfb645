/* generate.c: asks a model and prints its answer as it comes.
 *
 *   generate MODEL [QUESTION]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "finermoe.h"

/* Prints the answer piece by piece; each piece is whole characters, safe to show at once. */
static finermoe_status stream(finermoe_generation* generation, finermoe_error** error) {
  finermoe_event event = {.struct_size = sizeof event};
  do {
    finermoe_status status = finermoe_generation_next(generation, NULL, &event, error);
    if (status != FINERMOE_OK) return status;
    fwrite(event.text, 1, event.text_length, stdout);
    fflush(stdout);
  } while (event.finish_reason == FINERMOE_FINISH_NONE);
  putchar('\n');
  return FINERMOE_OK;
}

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    fprintf(stderr, "usage: generate MODEL [QUESTION]\n");
    return EXIT_FAILURE;
  }
  const char* question = argc == 3 ? argv[2] : "Define the noun \"lighthouse\".";

  finermoe_model* model = NULL;
  finermoe_session* session = NULL;
  finermoe_chat* chat = NULL;
  finermoe_generation* generation = NULL;
  finermoe_error* error = NULL;

  /* Each call runs only if the one before succeeded; the first that fails leaves its reason in `error`. */
  const int ok = finermoe_model_open(argv[1], NULL, &model, &error) == FINERMOE_OK &&
                 finermoe_session_create(model, NULL, &session, &error) == FINERMOE_OK &&
                 finermoe_chat_create(&chat, &error) == FINERMOE_OK &&
                 finermoe_chat_add(chat, "user", question, strlen(question), &error) == FINERMOE_OK &&
                 finermoe_generation_create_chat(session, NULL, chat, 0, &generation, &error) == FINERMOE_OK &&
                 stream(generation, &error) == FINERMOE_OK;
  if (!ok) {
    fprintf(stderr, "generate: %s: %s\n", finermoe_status_name(finermoe_error_code(error)),
            finermoe_error_message(error));
  }

  /* In any order; NULL is fine. */
  finermoe_error_free(error);
  finermoe_generation_free(generation);
  finermoe_chat_free(chat);
  finermoe_session_free(session);
  finermoe_model_free(model);
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
