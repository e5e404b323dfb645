/* streaming.c: a stop string, and an answer that another thread cancels.
 *
 *   streaming MODEL STOP_STRING
 */
#define _POSIX_C_SOURCE 200112L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "finermoe.h"

static const char question[] = "Define the noun \"lighthouse\".";

/* The other thread: an impatient reader. A cancel object may be raised from any thread. */
static void* lose_patience(void* cancel) {
  const struct timespec patience = {.tv_sec = 0, .tv_nsec = 100 * 1000 * 1000};
  nanosleep(&patience, NULL);
  finermoe_cancel_request(cancel);
  return NULL;
}

/* Streams until the answer ends or is cancelled; the event is the last one. */
static finermoe_status stream(finermoe_generation* generation, finermoe_cancel* cancel, FILE* out,
                              finermoe_event* event, finermoe_error** error) {
  finermoe_status status = FINERMOE_OK;
  do {
    status = finermoe_generation_next(generation, cancel, event, error);
    if (status == FINERMOE_OK && out != NULL) fwrite(event->text, 1, event->text_length, out);
  } while (status == FINERMOE_OK && event->finish_reason == FINERMOE_FINISH_NONE);
  return status;
}

/* The text ends before the stop string: what might become one is held back until that is ruled out. */
static int until_stop_string(finermoe_session* session, finermoe_generation_options* options, const char* stop,
                             const finermoe_chat* chat, finermoe_error** error) {
  finermoe_generation* generation = NULL;
  finermoe_event event = {.struct_size = sizeof event};
  const int ok = finermoe_generation_options_add_stop_string(options, stop, strlen(stop), error) == FINERMOE_OK &&
                 finermoe_generation_create_chat(session, options, chat, 0, &generation, error) == FINERMOE_OK &&
                 stream(generation, NULL, stdout, &event, error) == FINERMOE_OK;
  if (ok) printf("\n%s\n", event.finish_reason == FINERMOE_FINISH_STOP_STRING ? "stopped" : "ended otherwise");
  finermoe_generation_free(generation);
  return ok;
}

/* An endless answer, until the other thread cancels it. Nothing is lost: the next call resumes it. */
static int until_cancelled(finermoe_session* session, finermoe_generation_options* options, const finermoe_chat* chat,
                           finermoe_cancel* cancel, finermoe_error** error) {
  finermoe_generation* generation = NULL;
  finermoe_event event = {.struct_size = sizeof event};
  pthread_t reader;
  int ok = finermoe_generation_options_set_ignore_eos(options, 1, error) == FINERMOE_OK &&
           finermoe_generation_options_set_max_tokens(options, 0, error) == FINERMOE_OK &&
           finermoe_generation_create_chat(session, options, chat, 0, &generation, error) == FINERMOE_OK &&
           pthread_create(&reader, NULL, lose_patience, cancel) == 0;
  if (ok) {
    ok = stream(generation, cancel, NULL, &event, NULL) == FINERMOE_ERROR_CANCELLED;
    pthread_join(reader, NULL);
    finermoe_cancel_reset(cancel);
    ok = ok && finermoe_generation_next(generation, cancel, &event, error) == FINERMOE_OK;
  }
  if (ok) printf("cancelled, then went on with token %d\n", (int)event.token);
  finermoe_generation_free(generation);
  return ok;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: streaming MODEL STOP_STRING\n");
    return EXIT_FAILURE;
  }
  finermoe_model* model = NULL;
  finermoe_session* session = NULL;
  finermoe_chat* chat = NULL;
  finermoe_generation_options *stopping = NULL, *endless = NULL;
  finermoe_cancel* cancel = NULL;
  finermoe_error* error = NULL;
  const int ok = finermoe_model_open(argv[1], NULL, &model, &error) == FINERMOE_OK &&
                 finermoe_session_create(model, NULL, &session, &error) == FINERMOE_OK &&
                 finermoe_chat_create(&chat, &error) == FINERMOE_OK &&
                 finermoe_chat_add(chat, "user", question, strlen(question), &error) == FINERMOE_OK &&
                 finermoe_generation_options_create(model, &stopping, &error) == FINERMOE_OK &&
                 finermoe_generation_options_create(model, &endless, &error) == FINERMOE_OK &&
                 finermoe_cancel_create(&cancel, &error) == FINERMOE_OK &&
                 until_stop_string(session, stopping, argv[2], chat, &error) &&
                 until_cancelled(session, endless, chat, cancel, &error);
  if (!ok) fprintf(stderr, "streaming: %s\n", error != NULL ? finermoe_error_message(error) : "could not be cancelled");

  finermoe_error_free(error);
  finermoe_cancel_free(cancel);
  finermoe_generation_options_free(endless);
  finermoe_generation_options_free(stopping);
  finermoe_chat_free(chat);
  finermoe_session_free(session);
  finermoe_model_free(model);
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
