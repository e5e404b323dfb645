/* constrained.c: constrained output that a program can parse: a JSON object with fixed keys.
 *
 *   constrained MODEL WORD
 *
 * Keys and punctuation are forced; in between, the model chooses among the tokens that the format allows.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "finermoe.h"

enum { TOKEN = 256, TEXT = 4096, DEFINITION_TOKENS = 60 };

static const char* const parts[] = {"noun", "verb", "adjective", "adverb"};
enum { N_PARTS = sizeof parts / sizeof parts[0] };

struct writer {
  finermoe_tokenizer* tokenizer;
  finermoe_generation* generation;
  float* logits;
  size_t n_logits;
  int32_t quote, end_of_turn;
  char text[TEXT]; /* the object so far */
  finermoe_error* error;
};

static int ok(finermoe_status status) { return status == FINERMOE_OK; }

static void put(struct writer* writer, const char* text, size_t length) {
  const size_t held = strlen(writer->text);
  if (held + length >= TEXT) return;
  memcpy(writer->text + held, text, length);
  writer->text[held + length] = '\0';
}

/* Text that must come here. No event contains it, so it is recorded by hand. */
static int force(struct writer* writer, const char* text) {
  int32_t ids[TOKEN];
  size_t n = 0;
  put(writer, text, strlen(text));
  return ok(finermoe_tokenizer_encode(writer->tokenizer, text, strlen(text), FINERMOE_TEXT_NO_SPECIAL_TOKENS, ids, NULL,
                                      TOKEN, &n, &writer->error)) &&
         ok(finermoe_generation_append(writer->generation, ids, n, &writer->error));
}

/* Whether a JSON string may contain these bytes unescaped. Non-ASCII bytes are excluded, since a token can end
 * inside a character. */
static int in_string(const char* bytes, size_t length) {
  for (size_t i = 0; i < length; ++i) {
    if (bytes[i] < ' ' || bytes[i] > '~' || bytes[i] == '"' || bytes[i] == '\\') return 0;
  }
  return length > 0;
}

/* Whether one of the parts of speech begins with `begun` followed by these bytes. */
static int in_part(const char* begun, const char* bytes, size_t length) {
  const size_t n = strlen(begun);
  for (size_t i = 0; i < N_PARTS; ++i) {
    if (length > 0 && strncmp(parts[i], begun, n) == 0 && strncmp(parts[i] + n, bytes, length) == 0) return 1;
  }
  return 0;
}

static int is_part(const char* word) {
  for (size_t i = 0; i < N_PARTS; ++i) {
    if (strcmp(parts[i], word) == 0) return 1;
  }
  return 0;
}

/* The model's choice among the tokens that are allowed; `begun` is the beginning of a part of speech, or NULL in a
 * string. */
static int choose(struct writer* writer, const char* begun, finermoe_event* event) {
  if (!ok(finermoe_generation_prepare(writer->generation, NULL, &writer->error)) ||
      !ok(finermoe_generation_get_logits(writer->generation, writer->logits, writer->n_logits, NULL, &writer->error))) {
    return 0;
  }
  /* A stop token would end the request in the middle of the object. If the model wants one, the string ends. */
  const float quote = writer->logits[writer->quote], end_of_turn = writer->logits[writer->end_of_turn];
  for (size_t id = 0; id < writer->n_logits; ++id) {
    char bytes[TOKEN];
    size_t length = 0;
    int32_t kind = FINERMOE_TOKEN_UNUSED;
    const int is_known =
        ok(finermoe_tokenizer_token(writer->tokenizer, (int32_t)id, bytes, TOKEN, &length, &kind, NULL));
    const int is_allowed = is_known && kind == FINERMOE_TOKEN_NORMAL &&
                           (begun != NULL ? in_part(begun, bytes, length) : in_string(bytes, length));
    if (!is_allowed) writer->logits[id] = -INFINITY;
  }
  if (begun == NULL) writer->logits[writer->quote] = quote > end_of_turn ? quote : end_of_turn;
  return ok(finermoe_generation_set_logits(writer->generation, writer->logits, writer->n_logits, &writer->error)) &&
         ok(finermoe_generation_next(writer->generation, NULL, event, &writer->error));
}

static int write_string(struct writer* writer) {
  finermoe_event event = {.struct_size = sizeof event};
  for (int i = 0; i < DEFINITION_TOKENS; ++i) {
    if (!choose(writer, NULL, &event)) return 0;
    put(writer, event.text, event.text_length);
    if (event.token == writer->quote) return 1;
  }
  return force(writer, "\""); /* long enough */
}

static int write_part(struct writer* writer) {
  finermoe_event event = {.struct_size = sizeof event};
  const char* begun = writer->text + strlen(writer->text);
  do {
    if (!choose(writer, begun, &event)) return 0;
    put(writer, event.text, event.text_length);
  } while (!is_part(begun));
  return force(writer, "\"");
}

static int write_object(struct writer* writer) {
  finermoe_event event = {.struct_size = sizeof event};
  return force(writer, "{\"definition\": \"") && write_string(writer) && force(writer, ", \"part\": \"") &&
         write_part(writer) && force(writer, "}") &&
         ok(finermoe_generation_finish(writer->generation, &event, &writer->error));
}

/* Looks up what is needed of the tokenizer and the model. */
static int look_up(struct writer* writer, finermoe_model* model) {
  finermoe_config* config = NULL;
  finermoe_config_info shape = {.struct_size = sizeof shape};
  finermoe_tokenizer_info info = {.struct_size = sizeof info};
  const int fine = ok(finermoe_tokenizer_open_model(model, &writer->tokenizer, &writer->error)) &&
                   ok(finermoe_tokenizer_get_info(writer->tokenizer, &info, &writer->error)) &&
                   ok(finermoe_tokenizer_find(writer->tokenizer, "\"", 1, &writer->quote, &writer->error)) &&
                   ok(finermoe_config_open_model(model, &config, &writer->error)) &&
                   ok(finermoe_config_get_info(config, &shape, &writer->error));
  finermoe_config_free(config);
  writer->end_of_turn = info.end_of_turn_id;
  writer->n_logits = shape.vocab_size;
  writer->logits = fine ? calloc(shape.vocab_size, sizeof *writer->logits) : NULL;
  return writer->logits != NULL && writer->quote >= 0 && writer->end_of_turn >= 0;
}

int main(int argc, char** argv) {
  char question[TEXT];
  if (argc != 3 || snprintf(question, sizeof question, "Define the noun \"%s\".", argv[2]) >= (int)sizeof question) {
    fprintf(stderr, "usage: constrained MODEL WORD\n");
    return EXIT_FAILURE;
  }
  struct writer writer = {.quote = -1, .end_of_turn = -1};
  finermoe_model* model = NULL;
  finermoe_session* session = NULL;
  finermoe_generation_options* options = NULL;
  finermoe_chat* chat = NULL;
  finermoe_error** const error = &writer.error;
  /* Only the format decides when to end, not the model's usual limit. */
  const int fine = ok(finermoe_model_open(argv[1], NULL, &model, error)) && look_up(&writer, model) &&
                   ok(finermoe_session_create(model, NULL, &session, error)) &&
                   ok(finermoe_generation_options_create(model, &options, error)) &&
                   ok(finermoe_generation_options_set_max_tokens(options, 0, error)) &&
                   ok(finermoe_chat_create(&chat, error)) &&
                   ok(finermoe_chat_add(chat, "user", question, strlen(question), error)) &&
                   ok(finermoe_generation_create_chat(session, options, chat, 0, &writer.generation, error)) &&
                   write_object(&writer);
  if (fine) puts(writer.text);
  if (!fine)
    fprintf(stderr, "constrained: %s\n", writer.error != NULL ? finermoe_error_message(writer.error) : "no chat");

  finermoe_error_free(writer.error);
  finermoe_generation_free(writer.generation);
  finermoe_chat_free(chat);
  finermoe_generation_options_free(options);
  finermoe_session_free(session);
  finermoe_tokenizer_free(writer.tokenizer);
  finermoe_model_free(model);
  free(writer.logits);
  return fine ? EXIT_SUCCESS : EXIT_FAILURE;
}
