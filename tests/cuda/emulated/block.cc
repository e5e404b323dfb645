#include "block.h"

#include <bit>
#include <deque>
#include <memory>

#include "stacks.h"

namespace emulated {

constinit thread_local Running running;

namespace {

// Thrown in threads that wait for what will not come.
struct GivenUp {};

struct Thread {
  Context* on = nullptr;  // while it has begun and not ended
  Copies copies;
};

struct Warp {
  unsigned n_waiting = 0, n_exchanges = 0;
  uint32_t epoch = 0;
  Words words[2][warp_size];  // of the last exchange, and of the one before, which slower lanes still read
};

// One thread of the host runs blocks, one after the other. Threads begin on one stack, one after the other too; whoever
// has to wait keeps the stack, and the next thread gets another.
class Block {
 public:
  Block() = default;
  Block(const Block&) = delete;
  ~Block();
  std::string run(Dim3 grid, Dim3 block, Order order, const std::function<void()>& kernel);
  void wait_for_block();
  const Words* share(const Words& words, void (*change)(Words* lanes));
  void report(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }

 private:
  static constexpr unsigned none = UINT32_MAX;
  void run_block(Dim3 index);
  void run_threads(Context& own);
  unsigned take_next();
  void be(unsigned thread);
  Context& context_of(unsigned thread);
  void wait();
  void give_up();
  void make_ready(unsigned place) { ready_[place / 64] |= uint64_t{1} << place % 64; }
  void make_all_ready();

  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<unsigned> order_, places_;  // of threads; a thread's place in it
  std::vector<uint64_t> ready_;           // a bit for each place: has not begun, or can go on
  unsigned cursor_ = 0;                   // the place at which the search for the next one begins
  Stacks stacks_;
  std::deque<Context> contexts_;
  std::vector<Context*> idle_;  // on which no thread is
  const std::function<void()>* kernel_ = nullptr;
  unsigned n_threads_ = 0, n_live_ = 0, n_at_block_ = 0;
  uint32_t epoch_ = 0;  // of the block; never goes back
  bool gives_up_ = false, is_over_ = false;
  std::string wrong_;
};

Block& block() {
  thread_local Block own;
  return own;
}
// The one whose kernel runs.
constinit thread_local Block* running_block __attribute__((tls_model("initial-exec"))) = nullptr;

// Nothing is unwound: contexts come to their own end.
Block::~Block() {
  is_over_ = true;
  for (Context* const context : idle_) stacks_.switch_to(*context);
}

// Takes the first ready thread from the cursor on, around; none if no thread is ready.
unsigned Block::take_next() {
  size_t word = cursor_ / 64;
  uint64_t bits = ready_[word] & ~uint64_t{0} << cursor_ % 64;
  for (size_t i = 0; bits == 0; i++) {
    if (i == ready_.size()) return none;
    word = word + 1 == ready_.size() ? 0 : word + 1;
    bits = ready_[word];
  }
  const auto bit = static_cast<unsigned>(std::countr_zero(bits)), place = static_cast<unsigned>(word) * 64 + bit;
  ready_[word] ^= uint64_t{1} << bit;
  cursor_ = place + 1 == n_threads_ ? 0 : place + 1;
  return order_[place];
}

void Block::be(unsigned thread) {
  running.index.x = thread;
  running.warp_epoch = warps_[running.warp()].epoch;
  running.copies = &threads_[thread].copies;
}

// Where a thread goes on, or begins.
Context& Block::context_of(unsigned thread) {
  if (threads_[thread].on != nullptr) return *threads_[thread].on;
  if (idle_.empty()) {
    Context& made = contexts_.emplace_back();
    stacks_.make(made, [this, &made] { run_threads(made); });
    idle_.reserve(contexts_.size());
    idle_.push_back(&made);
  }
  Context* const context = idle_.back();
  idle_.pop_back();
  return *context;
}

// What a context does: threads that have not begun, until one comes that is on another one.
void Block::run_threads(Context& own) {
  while (!is_over_) {
    unsigned thread = running.id();
    do {
      be(thread);
      running.copies->begun.clear();
      running.copies->n_groups = 0;
      threads_[thread].on = &own;
      try {
        (*kernel_)();
      } catch (const GivenUp&) {
      }
      threads_[running.id()].on = nullptr;
      n_live_--;
      thread = take_next();
    } while (thread != none && threads_[thread].on == nullptr);
    idle_.push_back(&own);
    if (thread != none) be(thread);
    stacks_.switch_to(thread == none ? stacks_.host() : *threads_[thread].on);
  }
}

// The running thread waits until somebody makes it ready and its turn comes.
void Block::wait() {
  const unsigned next = take_next();
  if (next != none) be(next);
  stacks_.switch_to(next == none ? stacks_.host() : context_of(next));
  if (gives_up_) throw GivenUp();
}

void Block::make_all_ready() {
  for (uint64_t& word : ready_) word = ~uint64_t{0};
  if (n_threads_ % 64 != 0) ready_.back() >>= 64 - n_threads_ % 64;
}

void Block::wait_for_block() {
  if (++n_at_block_ < n_threads_) return wait();
  n_at_block_ = 0;
  running.block_epoch = ++epoch_;
  make_all_ready();
  const unsigned own = places_[running.id()];
  ready_[own / 64] ^= uint64_t{1} << own % 64;
}

const Words* Block::share(const Words& words, void (*change)(Words* lanes)) {
  const unsigned thread = running.id(), first = running.warp() * warp_size;
  Warp& warp = warps_[running.warp()];
  Words* const of_lanes = warp.words[warp.n_exchanges % 2];
  of_lanes[thread - first] = words;
  if (++warp.n_waiting < warp_size) {
    wait();
    return of_lanes;
  }
  if (change != nullptr) change(of_lanes);
  warp.n_waiting = 0;
  warp.n_exchanges++;
  running.warp_epoch = ++warp.epoch;
  for (unsigned lane = first; lane < first + warp_size; lane++) {
    if (lane != thread) make_ready(places_[lane]);
  }
  return of_lanes;
}

// Ends the threads that wait.
void Block::give_up() {
  report("a barrier or shuffle that not all threads reach");
  gives_up_ = true;
  for (unsigned i = 0; i < n_threads_; i++) {
    if (threads_[i].on != nullptr) make_ready(places_[i]);
  }
  const unsigned first = take_next();
  be(first);
  stacks_.switch_to(*threads_[first].on);
  gives_up_ = false;
  n_at_block_ = 0;
  for (Warp& warp : warps_) warp.n_waiting = 0;
}

void Block::run_block(Dim3 index) {
  n_live_ = n_threads_;
  running.block = index;
  running.block_epoch = running.first_epoch = ++epoch_;
  make_all_ready();
  cursor_ = 0;
  const unsigned first = take_next();
  be(first);
  stacks_.switch_to(context_of(first));
  if (n_live_ > 0) give_up();
}

std::vector<unsigned> ids_in(Order order, unsigned n) {
  std::vector<unsigned> ids(n);
  const unsigned n_warps = n / warp_size;
  for (unsigned i = 0; i < n; i++) {
    // Interleaved: the same lane of all warps, from the last warp on.
    ids[i] = order == Order::forwards    ? i
             : order == Order::backwards ? n - 1 - i
                                         : (n_warps - 1 - i % n_warps) * warp_size + i / n_warps;
  }
  return ids;
}

std::string Block::run(Dim3 grid, Dim3 size, Order order, const std::function<void()>& kernel) {
  wrong_.clear();
  n_threads_ = size.x * size.y * size.z;
  if (n_threads_ == 0 || n_threads_ > most_threads || n_threads_ % warp_size != 0 || size.x != n_threads_) {
    return "a block is whole warps along x, 1024 threads at most";
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) return "a grid that CUDA refuses";
  kernel_ = &kernel;
  running_block = this;
  if (threads_.size() < n_threads_) threads_.resize(n_threads_);
  warps_.resize(n_threads_ / warp_size);
  ready_.assign((n_threads_ + 63) / 64, 0);
  order_ = ids_in(order, n_threads_);
  places_.resize(n_threads_);
  for (unsigned i = 0; i < n_threads_; i++) places_[order_[i]] = i;
  running.index = {0, 0, 0};
  running.block_size = size;
  running.grid_size = grid;
  for (unsigned z = 0; z < grid.z; z++) {
    for (unsigned y = 0; y < grid.y; y++) {
      for (unsigned x = 0; x < grid.x; x++) run_block({x, y, z});
    }
  }
  return wrong_;
}

}  // namespace

std::string run(Dim3 grid, Dim3 block_size, Order order, const std::function<void()>& kernel) {
  return block().run(grid, block_size, order, kernel);
}
void wait_for_block() { running_block->wait_for_block(); }
const Words* share(const Words& words, void (*change)(Words* lanes)) { return running_block->share(words, change); }
uint64_t exchange(uint64_t value, unsigned from) {
  const Words& words = share({static_cast<uint32_t>(value), static_cast<uint32_t>(value >> 32)})[from % warp_size];
  return uint64_t{words[1]} << 32 | words[0];
}
void report(const std::string& what) { running_block->report(what); }
void check_mask(unsigned mask) {
  if (mask != 0xffffffffu) report("a shuffle among some lanes, which the emulation does not know");
}

}  // namespace emulated
