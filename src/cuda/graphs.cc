#include "cuda/graphs.h"

#include <algorithm>

namespace finermoe::cuda {
namespace {

// More than a pass of few rows has.
uint64_t commands_of(const Config& config) { return 20 * config.n_layers + 64; }

}  // namespace

uint64_t Graphs::bytes(const Config& config) { return (most_kept + 1) * commands_of(config) * sizeof(Command); }

Result<Graphs> Graphs::make(std::shared_ptr<const Context> context, const Config& config,
                            std::shared_ptr<MemoryAccount> account) {
  FM_ASSIGN(Buffer memory, Buffer::allocate(std::move(account), bytes(config), "lists of kernels"));
  return Graphs(std::move(context), commands_of(config), std::move(memory));
}

Graphs::Graphs(std::shared_ptr<const Context> context, size_t most_commands, Buffer memory)
    : context_(std::move(context)), most_commands_(most_commands), memory_(std::move(memory)), lists_(most_kept + 1) {
  for (size_t i = 0; i < lists_.size(); i++) lists_[i].commands = memory_.data<Command>() + i * most_commands_;
}

Graphs::~Graphs() {
  if (context_ == nullptr) return;
  context_->with([&] {
    for (List& list : lists_) forget(list);
    return success;
  });
}

Code Graphs::enqueue_all(const List& list, StreamHandle stream) {
  Code code = success;
  for (size_t i = 0; i < list.n && code == success; i++) code = list.commands[i].enqueue(stream);
  return code;
}

Graphs::List* Graphs::find_equal(const List& list) {
  for (List& other : lists_) {
    if (&other == &list || other.n != list.n) continue;
    if (std::equal(list.commands, list.commands + list.n, other.commands)) return &other;
  }
  return nullptr;
}

void Graphs::forget(List& list) const {
  if (list.graph != nullptr) context_->driver().destroy_graph(list.graph);
  list = {.commands = list.commands};
}

// Without a graph, if the driver makes none: it says why when the commands are enqueued one by one, if it is the
// device's fault.
void Graphs::make_graph(List& list, StreamHandle stream) const {
  list.is_tried = true;
  const Driver& driver = context_->driver();
  if (driver.begin_capture(stream, capture_this_thread) != success) return;
  const Code enqueued = enqueue_all(list, stream);
  GraphTemplateHandle captured = nullptr;
  if (driver.end_capture(stream, &captured) == success && enqueued == success) {
    if (driver.instantiate_graph(&list.graph, captured, 0) != success) list.graph = nullptr;
  }
  if (captured != nullptr) driver.destroy_graph_template(captured);
}

Code Graphs::launch(StreamHandle stream) {
  List& made = lists_[current_];
  if (made.n == 0) return success;
  List* const known = find_equal(made);
  if (known != nullptr) {
    made.n = 0;
    known->last_launch = ++n_launches_;
    if (!known->is_tried) make_graph(*known, stream);
    return known->graph != nullptr ? context_->driver().launch_graph(known->graph, stream)
                                   : enqueue_all(*known, stream);
  }
  made.last_launch = ++n_launches_;
  // Not one that may be running: between two waits far fewer lists come.
  const auto oldest = std::min_element(lists_.begin(), lists_.end(),
                                       [](const List& a, const List& b) { return a.last_launch < b.last_launch; });
  forget(*oldest);
  const Code code = enqueue_all(made, stream);
  current_ = static_cast<size_t>(oldest - lists_.begin());
  return code;
}

}  // namespace finermoe::cuda
