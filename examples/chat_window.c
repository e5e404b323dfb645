/* chat_window.c: a conversation with edits, retries and a sliding window.
 *
 *   chat_window MODEL [ANSWER_TOKENS [CONTEXT [LARGEST_CONTEXT]]]
 *
 * Each line of stdin is a message, or one of
 *   /system TEXT  starts over, with this system message
 *   /edit TEXT    replaces the last message and answers it
 *   /again        answers the last message again
 *   /more         continues an answer that was cut off
 *   /stop TEXT    from now on answers end before this text
 * After each answer: how many tokens of its prompt the session already held, of how many, and its context length.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "finermoe.h"

enum { LINE = 4096, TEXT = 65536 };

struct window {
  finermoe_tokenizer* tokenizer;
  finermoe_session* session;
  finermoe_generation_options* options;
  finermoe_chat* chat;
  size_t answer_tokens, context, largest;
  uint64_t n_tries;
  char answer[TEXT];
  finermoe_error* error;
};

static int ok(finermoe_status status) { return status == FINERMOE_OK; }

/* A new chat of the first n messages. */
static finermoe_chat* beginning(struct window* window, size_t n) {
  finermoe_chat* copy = NULL;
  int fine = ok(finermoe_chat_create(&copy, &window->error));
  for (size_t i = 0; fine && i < n; ++i) {
    finermoe_chat_message message = {.struct_size = sizeof message};
    fine = ok(finermoe_chat_get(window->chat, i, &message, &window->error)) &&
           ok(finermoe_chat_add(copy, message.role, message.text, message.text_length, &window->error));
  }
  if (fine) return copy;
  finermoe_chat_free(copy);
  return NULL;
}

static int count(struct window* window, const finermoe_chat* chat, uint32_t flags, size_t* n) {
  const finermoe_status status = finermoe_chat_encode(chat, window->tokenizer, flags, NULL, 0, n, NULL);
  if (status == FINERMOE_ERROR_BUFFER_TOO_SMALL || status == FINERMOE_OK) return 1;
  return ok(finermoe_chat_encode(chat, window->tokenizer, flags, NULL, 0, n, &window->error)); /* the reason */
}

/* Keeps the session's common prefix with the chat's prompt, so that positions in both agree. */
static int align(struct window* window, uint32_t flags, size_t n, size_t* n_kept) {
  int32_t* ids = calloc(n + 1, sizeof *ids);
  const int fine = ids != NULL &&
                   ok(finermoe_chat_encode(window->chat, window->tokenizer, flags, ids, n, NULL, &window->error)) &&
                   ok(finermoe_session_keep_prefix(window->session, ids, n, n_kept, &window->error));
  free(ids);
  return fine;
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Drops the oldest question and answer, from the chat and the session. A system message before them stays. */
static int forget_turn(struct window* window, uint32_t flags, size_t* n) {
  finermoe_chat_message message = {.struct_size = sizeof message};
  if (!ok(finermoe_chat_get(window->chat, 0, &message, &window->error))) return 0;
  const size_t first = strcmp(message.role, "system") == 0 ? 1 : 0;
  finermoe_chat* head = beginning(window, first + 2);
  size_t end = 0, n_rest = 0, n_kept = 0;
  const int fine = head != NULL && count(window, head, FINERMOE_TEXT_NO_GENERATION_PROMPT, &end) &&
                   align(window, flags, *n, &n_kept) &&
                   ok(finermoe_chat_remove(window->chat, first, first + 2, &window->error)) &&
                   count(window, window->chat, flags, &n_rest);
  finermoe_chat_free(head);
  if (!fine) return 0;
  const size_t begin = end - (*n - n_rest);
  *n = n_rest;
  return ok(finermoe_session_remove(window->session, least(begin, n_kept), least(end, n_kept), &window->error));
}

/* Messages that can be dropped while keeping the last question, or its answer, and a system message at the start. */
static size_t spare_messages(const struct window* window) {
  finermoe_chat_message message = {.struct_size = sizeof message};
  const size_t n = finermoe_chat_count(window->chat);
  if (n == 0 || finermoe_chat_get(window->chat, 0, &message, NULL) != FINERMOE_OK) return 0;
  return n - (strcmp(message.role, "system") == 0 ? 1 : 0);
}

/* Makes room for the prompt and the answer: by a larger context as long as that is allowed, then by a sliding window.
 */
static int make_room(struct window* window, uint32_t flags) {
  size_t n = 0;
  if (!count(window, window->chat, flags, &n)) return 0;
  while (n + window->answer_tokens > window->context && window->context < window->largest) {
    const size_t larger = least(2 * window->context, window->largest);
    if (!ok(finermoe_session_set_context_length(window->session, larger, &window->error))) return 0;
    window->context = larger;
  }
  while (n + window->answer_tokens > window->context && spare_messages(window) > 2) {
    if (!forget_turn(window, flags, &n)) return 0;
  }
  return 1;
}

/* Prints the answer as it is generated, and appends it to window->answer. */
static int stream(struct window* window, finermoe_generation* generation) {
  finermoe_event event = {.struct_size = sizeof event};
  size_t length = strlen(window->answer);
  do {
    if (!ok(finermoe_generation_next(generation, NULL, &event, &window->error))) return 0;
    fwrite(event.text, 1, event.text_length, stdout);
    fflush(stdout);
    if (length + event.text_length < TEXT) {
      memcpy(window->answer + length, event.text, event.text_length + 1);
      length += event.text_length;
    }
  } while (event.finish_reason == FINERMOE_FINISH_NONE);
  return 1;
}

/* Answers the last message, or continues it if it is an answer that was cut off. */
static int reply(struct window* window, const finermoe_generation_options* options, int is_more) {
  const uint32_t flags = is_more ? FINERMOE_TEXT_CONTINUE_LAST : FINERMOE_TEXT_DEFAULT;
  finermoe_generation* generation = NULL;
  finermoe_generation_info info = {.struct_size = sizeof info};
  int fine = make_room(window, flags) && ok(finermoe_generation_create_chat(window->session, options, window->chat,
                                                                            flags, &generation, &window->error));
  const size_t last = finermoe_chat_count(window->chat) - 1; /* of the chat after making room */
  if (!is_more) window->answer[0] = '\0';
  fine = fine && stream(window, generation) && ok(finermoe_generation_get_info(generation, &info, &window->error));
  if (fine) {
    const size_t length = strlen(window->answer);
    printf("\n[%zu of %zu kept, context %zu]\n", info.n_kept, info.n_prompt, window->context);
    fine = ok(is_more ? finermoe_chat_set(window->chat, last, window->answer, length, &window->error)
                      : finermoe_chat_add(window->chat, "assistant", window->answer, length, &window->error));
  }
  finermoe_generation_free(generation);
  return fine;
}

/* The same question with some randomness, different each time. */
static int reply_again(struct window* window) {
  finermoe_generation_options* livelier = NULL;
  const int fine = ok(finermoe_generation_options_copy(window->options, &livelier, &window->error)) &&
                   ok(finermoe_generation_options_set_temperature(livelier, 0.7, &window->error)) &&
                   ok(finermoe_generation_options_set_seed(livelier, ++window->n_tries, &window->error)) &&
                   reply(window, livelier, 0);
  finermoe_generation_options_free(livelier);
  return fine;
}

static const char* after(const char* line, const char* command) {
  const size_t n = strlen(command);
  return strncmp(line, command, n) == 0 ? line + n : NULL;
}

static int obey(struct window* window, const char* line) {
  finermoe_error** const error = &window->error;
  const size_t n = finermoe_chat_count(window->chat);
  const int is_answered = n > 0 && window->answer[0] != '\0'; /* the last message is an answer, n - 2 its question */
  const char* text = NULL;
  if ((text = after(line, "/system ")) != NULL) {
    window->answer[0] = '\0';
    return ok(finermoe_chat_truncate(window->chat, 0, error)) &&
           ok(finermoe_chat_add(window->chat, "system", text, strlen(text), error));
  }
  if ((text = after(line, "/stop ")) != NULL) {
    return ok(finermoe_generation_options_add_stop_string(window->options, text, strlen(text), error));
  }
  if (line[0] != '/') {
    return ok(finermoe_chat_add(window->chat, "user", line, strlen(line), error)) && reply(window, window->options, 0);
  }
  if (is_answered && (text = after(line, "/edit ")) != NULL) {
    return ok(finermoe_chat_truncate(window->chat, n - 1, error)) &&
           ok(finermoe_chat_set(window->chat, n - 2, text, strlen(text), error)) && reply(window, window->options, 0);
  }
  if (is_answered && strcmp(line, "/again") == 0) {
    return ok(finermoe_chat_truncate(window->chat, n - 1, error)) && reply_again(window);
  }
  if (is_answered && strcmp(line, "/more") == 0) return reply(window, window->options, 1);
  puts("[not understood]");
  return 1;
}

int main(int argc, char** argv) {
  if (argc < 2 || argc > 5) {
    fprintf(stderr, "usage: chat_window MODEL [ANSWER_TOKENS [CONTEXT [LARGEST_CONTEXT]]]\n");
    return EXIT_FAILURE;
  }
  struct window* window = calloc(1, sizeof *window);
  if (window == NULL) return EXIT_FAILURE;
  window->answer_tokens = argc > 2 ? strtoul(argv[2], NULL, 10) : 128;
  window->context = argc > 3 ? strtoul(argv[3], NULL, 10) : 1024;
  window->largest = argc > 4 ? strtoul(argv[4], NULL, 10) : window->context;
  finermoe_model* model = NULL;
  finermoe_session_options* options = NULL;
  finermoe_error** const error = &window->error;
  int fine = ok(finermoe_model_open(argv[1], NULL, &model, error)) &&
             ok(finermoe_tokenizer_open_model(model, &window->tokenizer, error)) &&
             ok(finermoe_session_options_create(&options, error)) &&
             ok(finermoe_session_options_set_context_length(options, window->context, error)) &&
             ok(finermoe_session_create(model, options, &window->session, error)) &&
             ok(finermoe_generation_options_create(model, &window->options, error)) &&
             ok(finermoe_generation_options_set_max_tokens(window->options, window->answer_tokens, error)) &&
             ok(finermoe_chat_create(&window->chat, error));
  char line[LINE];
  while (fine && fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    fine = obey(window, line);
  }
  if (!fine) fprintf(stderr, "chat_window: %s\n", *error != NULL ? finermoe_error_message(*error) : "out of memory");

  finermoe_error_free(*error);
  finermoe_chat_free(window->chat);
  finermoe_generation_options_free(window->options);
  finermoe_session_free(window->session);
  finermoe_session_options_free(options);
  finermoe_tokenizer_free(window->tokenizer);
  finermoe_model_free(model);
  free(window);
  return fine ? EXIT_SUCCESS : EXIT_FAILURE;
}
