// Kinds of rows: many requests at once.
#include "runner.h"

namespace {

BatchHandle new_batch(finermoe_model* model) {
  return create<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model, out, e); });
}

// A request in a batch, with its session and what came of it.
struct Member {
  uint64_t tag = 0;
  SessionHandle session;
  GenerationHandle generation;
  std::string text;
  std::string finish = "none";
};
Member new_member(finermoe_model* model, const Json& row) {
  Member member;
  member.tag = row["tag"];
  member.session = open_row_session(model, row);
  member.generation = start(model, member.session.get(), row);
  call([&](auto** e) { return finermoe_generation_set_tag(member.generation.get(), member.tag, e); });
  return member;
}

class Run {
 public:
  Run(const Json& row) : row_(row), model_(open_row_model(row)), batch_(new_batch(model_.get())) {
    for (const Json& member : row["members"]) members_.push_back(new_member(model_.get(), member));
  }

  // Runs until no member is left; `between` is called before each event with their number so far.
  template <class Between>
  void to_the_end(Between&& between) {
    join_and_leave(0);
    for (size_t n = 0;; n++) {
      between(n);
      uint64_t tag = 0;
      const auto event = get<finermoe_event>(
          [&](auto* out, auto** e) { return finermoe_batch_next(batch_.get(), nullptr, &tag, out, e); });
      if (event.token < 0 && event.finish_reason == FINERMOE_FINISH_NONE) return;
      Member& from = with_tag(tag);
      from.text.append(event.text, event.text_length);
      if (event.finish_reason != FINERMOE_FINISH_NONE) from.finish = finish_name(event.finish_reason);
      join_and_leave(n + 1);
    }
  }

  Member& with_tag(uint64_t tag) {
    for (Member& member : members_) {
      if (member.tag == tag) return member;
    }
    throw Failed{0, "an event with a tag that no member has", "", ""};
  }
  const std::vector<Member>& members() const { return members_; }

 private:
  void join_and_leave(size_t n_events) {
    for (size_t i = 0; i < members_.size(); i++) {
      const Json& member = row_["members"][i];
      finermoe_generation* const generation = members_[i].generation.get();
      if (member.value("join_after", size_t{0}) == n_events) {
        call([&](auto** e) { return finermoe_batch_add(batch_.get(), generation, e); });
      }
      if (member.contains("leave_after") && member["leave_after"] == n_events) {
        call([&](auto** e) { return finermoe_batch_remove(batch_.get(), generation, e); });
      }
    }
  }

  const Json& row_;
  ModelHandle model_;
  BatchHandle batch_;
  std::vector<Member> members_;
};

Json batch(const Json& row) {
  Run run(row);
  run.to_the_end([](size_t) {});
  Json texts = Json::object(), finish = Json::object();
  for (const Member& member : run.members()) {
    finish[std::to_string(member.tag)] = member.finish;
    if (member.finish != "none") texts[std::to_string(member.tag)] = member.text;
  }
  return {{"texts", texts}, {"finish", finish}};
}

Json batch_error(const Json& row) {
  Run run(row);
  Member& failing = run.with_tag(row["closes"]);
  run.to_the_end([&](size_t n) {
    if (n == row["close_after"]) finermoe_session_close(failing.session.get());
  });
  Json texts = Json::object();
  for (const Member& member : run.members()) {
    if (&member != &failing) texts[std::to_string(member.tag)] = member.text;
  }
  return {{"texts", texts},
          {"code", code_of([&] {
             call([&](auto** e) { return finermoe_generation_get_error(failing.generation.get(), e); });
           })}};
}

}  // namespace

void add_batches(Behaviours& behaviours) { behaviours.insert({{"batch", batch}, {"batch_error", batch_error}}); }
