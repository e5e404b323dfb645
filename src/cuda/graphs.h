// Passes that come again, as graphs of the driver: a launch each, in place of one for every kernel.
#pragma once

#include <vector>

#include "cuda/command.h"
#include "cuda/context.h"
#include "format/config.h"

namespace finermoe::cuda {

// Commands are listed, and then launched together. A list that comes for the first time is enqueued as it is, one that
// comes again becomes a graph. Commands may point only to what stays in place as long as this object.
class Graphs {
 public:
  static constexpr size_t most_kept = 8;  // lists
  // Of the host. What the driver needs for a graph is its own.
  static uint64_t bytes(const Config& config);
  static Result<Graphs> make(std::shared_ptr<const Context> context, const Config& config,
                             std::shared_ptr<MemoryAccount> account);
  Graphs(Graphs&&) = default;
  Graphs& operator=(Graphs&&) = delete;
  ~Graphs();

  // Whether there is room for one more.
  bool has_room() const { return lists_[current_].n < most_commands_; }
  template <class... Arguments>
  void add(const Arguments&... arguments) {
    List& list = lists_[current_];
    new (list.commands + list.n++) Command(arguments...);
  }
  void forget_commands() { lists_[current_].n = 0; }
  // Enqueues the commands listed so far, and begins another list. The context is current.
  Code launch(StreamHandle stream);

 private:
  struct List {
    Command* commands = nullptr;
    size_t n = 0;
    GraphHandle graph = nullptr;  // once made
    bool is_tried = false;        // to make it: not again if that failed
    uint64_t last_launch = 0;
  };
  Graphs(std::shared_ptr<const Context> context, size_t most_commands, Buffer memory);

  static Code enqueue_all(const List& list, StreamHandle stream);
  List* find_equal(const List& list);
  void make_graph(List& list, StreamHandle stream) const;
  void forget(List& list) const;

  std::shared_ptr<const Context> context_;
  size_t most_commands_;
  Buffer memory_;
  std::vector<List> lists_;  // [most_kept + 1]
  size_t current_ = 0;       // the list that is being made
  uint64_t n_launches_ = 0;
};

}  // namespace finermoe::cuda
