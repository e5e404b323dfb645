/* batch_worker.c: answers the lines of stdin, several at a time, one pass over the weights for all.
 *
 *   batch_worker MODEL
 *
 * Requests are numbered by line, from 1. A line "withdraw N" withdraws request N. Answers are printed as they finish:
 * "N: text", or "N failed: reason".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "finermoe.h"

enum { SLOTS = 3, CONTEXT = 256, LINE = 4096, TEXT = 8192 };

static int ok(finermoe_status status) { return status == FINERMOE_OK; }

/* A slot of the batch. Its session is reused by later requests: the common prefix of two prompts is computed once. */
struct slot {
  finermoe_session* session;
  finermoe_generation* generation; /* NULL: free */
  uint64_t tag;
  char text[TEXT];
  size_t length;
};

struct worker {
  finermoe_batch* batch;
  struct slot slots[SLOTS];
  uint64_t n_lines;
  int is_over; /* no lines are left */
};

static struct slot* find(struct worker* worker, uint64_t tag) {
  for (size_t i = 0; i < SLOTS; ++i) {
    if (worker->slots[i].generation != NULL && worker->slots[i].tag == tag) return &worker->slots[i];
  }
  return NULL;
}

static void print_failure(uint64_t tag, const finermoe_error* reason) {
  printf("%llu failed: %s: %s\n", (unsigned long long)tag, finermoe_status_name(finermoe_error_code(reason)),
         finermoe_error_message(reason));
}

static void leave(struct slot* slot) {
  finermoe_generation_free(slot->generation);
  slot->generation = NULL;
}

/* Adds a request to the batch. If it is rejected, say because it is too long, that is a result like any other. */
static void join(struct worker* worker, struct slot* slot, const char* question) {
  finermoe_chat* chat = NULL;
  finermoe_error* error = NULL;
  const int fine = ok(finermoe_chat_create(&chat, &error)) &&
                   ok(finermoe_chat_add(chat, "user", question, strlen(question), &error)) &&
                   ok(finermoe_generation_create_chat(slot->session, NULL, chat, 0, &slot->generation, &error)) &&
                   ok(finermoe_generation_set_tag(slot->generation, worker->n_lines, &error)) &&
                   ok(finermoe_batch_add(worker->batch, slot->generation, &error));
  slot->tag = worker->n_lines;
  slot->length = 0;
  if (!fine) {
    print_failure(slot->tag, error);
    leave(slot);
  }
  finermoe_error_free(error);
  finermoe_chat_free(chat);
}

/* Reads lines until every slot is taken. */
static void fill(struct worker* worker) {
  for (size_t i = 0; i < SLOTS && !worker->is_over;) {
    char line[LINE];
    unsigned long long withdrawn = 0;
    if (worker->slots[i].generation != NULL) {
      ++i;
    } else if (fgets(line, sizeof line, stdin) == NULL) {
      worker->is_over = 1;
    } else {
      line[strcspn(line, "\n")] = '\0';
      ++worker->n_lines;
      if (sscanf(line, "withdraw %llu", &withdrawn) == 1) {
        struct slot* slot = find(worker, withdrawn);
        if (slot != NULL) finermoe_generation_close(slot->generation); /* the next event of this member says so */
      } else {
        join(worker, &worker->slots[i], line);
      }
    }
  }
}

/* One event of some member. */
static void take(struct worker* worker, uint64_t tag, const finermoe_event* event) {
  struct slot* slot = find(worker, tag);
  if (slot->length + event->text_length < TEXT) {
    memcpy(slot->text + slot->length, event->text, event->text_length);
    slot->length += event->text_length;
  }
  if (event->finish_reason == FINERMOE_FINISH_NONE) return;
  if (event->finish_reason == FINERMOE_FINISH_ERROR) {
    finermoe_error* reason = NULL;
    finermoe_generation_get_error(slot->generation, &reason); /* returns the request's own error */
    print_failure(tag, reason);
    finermoe_error_free(reason);
  } else {
    printf("%llu: %.*s\n", (unsigned long long)tag, (int)slot->length, slot->text);
  }
  leave(slot); /* the batch dropped it with this event */
}

static int run(struct worker* worker, finermoe_error** error) {
  for (;;) {
    fill(worker);
    uint64_t tag = 0;
    finermoe_event event = {.struct_size = sizeof event};
    if (!ok(finermoe_batch_next(worker->batch, NULL, &tag, &event, error))) return 0;
    if (tag == 0) return 1; /* no member is left: tags count from 1 */
    take(worker, tag, &event);
  }
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: batch_worker MODEL < LINES\n");
    return EXIT_FAILURE;
  }
  struct worker* worker = calloc(1, sizeof *worker);
  if (worker == NULL) return EXIT_FAILURE;
  finermoe_model* model = NULL;
  finermoe_session_options* options = NULL;
  finermoe_error* error = NULL;
  int fine = ok(finermoe_model_open(argv[1], NULL, &model, &error)) &&
             ok(finermoe_session_options_create(&options, &error)) &&
             ok(finermoe_session_options_set_context_length(options, CONTEXT, &error)) &&
             ok(finermoe_batch_create(model, &worker->batch, &error));
  for (size_t i = 0; fine && i < SLOTS; ++i) {
    fine = ok(finermoe_session_create(model, options, &worker->slots[i].session, &error));
  }
  fine = fine && run(worker, &error);
  if (!fine) fprintf(stderr, "batch_worker: %s\n", finermoe_error_message(error));

  finermoe_error_free(error);
  for (size_t i = 0; i < SLOTS; ++i) {
    finermoe_generation_free(worker->slots[i].generation);
    finermoe_session_free(worker->slots[i].session);
  }
  finermoe_batch_free(worker->batch);
  finermoe_session_options_free(options);
  finermoe_model_free(model);
  free(worker);
  return fine ? EXIT_SUCCESS : EXIT_FAILURE;
}
