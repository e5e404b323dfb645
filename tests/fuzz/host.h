// A host that makes any calls, over three models of different vocabularies: for the target of API calls.
#pragma once

#include <string>
#include <vector>

#include "support.h"

namespace fuzz {

constexpr size_t n_models = 3, n_slots = 4, longest_context = 24, most_calls = 300;

struct AnyModel {
  Model model;
  uint64_t vocab_size = 0;
};
struct AnySession {
  Session session;
  size_t model = 0;
  bool is_exact = false;  // float32 throughout: its logits can be computed again
};
struct AnyGeneration {
  Generation generation;
  uint64_t vocab_size = 0;
};

// The objects of one input, and what can be done with them.
class Host {
 public:
  explicit Host(Choices& choices) : choices_(choices) {
    cancel_ = must<Cancel>([](auto** out, auto** e) { return finermoe_cancel_create(out, e); });
    chat_ = must<Chat>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });
  }

  void call();
  void compute_again();

 private:
  AnyModel& model(size_t i);
  AnySession& any_session() { return sessions_[choices_.below(n_slots)]; }
  AnyGeneration& any_generation() { return generations_[choices_.below(n_slots)]; }
  finermoe_generation_options* any_options() { return options_[choices_.below(n_slots)].get(); }
  // Raised now and then.
  finermoe_cancel* any_cancel() {
    const uint8_t choice = choices_.byte();
    finermoe_cancel_reset(cancel_.get());
    if (choice == 255) finermoe_cancel_request(cancel_.get());
    return choice < 128 ? nullptr : cancel_.get();
  }
  int32_t any_id();
  std::vector<int32_t> any_ids();
  double any_number();
  std::string any_text();
  size_t any_count();

  void create_session();
  void append();
  void score();
  void change_session();
  void rearrange_session();
  void save_session();
  void create_options();
  void set_option();
  void set_sampling();
  void create_generation();
  void use_generation();
  void steer_generation();
  void save_generation();
  void use_logits();
  void use_batch();
  void use_trace();
  void use_chat();
  void free_something();
  void close_something();
  void check(const AnySession& any);

  Choices& choices_;
  AnyModel models_[n_models];
  AnySession sessions_[n_slots];
  GenerationOptions options_[n_slots];
  AnyGeneration generations_[n_slots];
  Batch batches_[n_slots];
  Trace traces_[n_slots];
  Cancel cancel_;
  Chat chat_;
};

}  // namespace fuzz
