#include "block.h"

#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <memory>
#include <vector>

namespace emulated {

constinit thread_local Thread* running = nullptr;

namespace {

// Thrown in threads that wait for what will not come.
struct GivenUp {};

enum class State { ready, at_block, at_warp, done };

class Block;

struct Fiber {
  boost::context::fiber fiber;  // suspended, or empty while it runs
  Thread thread;
  State state = State::done;
};

struct Warp {
  unsigned n_live = 0, n_waiting = 0, n_exchanges = 0;
  uint64_t epoch = 0;
  Words words[2][warp_size];  // of the last exchange, and of the one before, which slower lanes still read
};

// The fibers of one thread of the host, used again for each block.
class Block {
 public:
  Block() = default;
  Block(const Block&) = delete;
  ~Block();
  std::string run(Dim3 grid, Dim3 block, Order order, const std::function<void()>& kernel);
  void wait_for_block();
  const Words* share(const Words& words);
  void report(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }

 private:
  void run_block(Dim3 index);
  void resume(Fiber& fiber);
  void wait(State state);  // of the running fiber
  bool run_ready(const std::vector<unsigned>& order);
  void release_block();
  boost::context::fiber body(Fiber& fiber, boost::context::fiber&& scheduler);

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Warp> warps_;
  std::vector<unsigned> order_;  // of threads
  boost::context::fiber scheduler_;
  boost::context::protected_fixedsize_stack stacks_{64 * 1024};
  const std::function<void()>* kernel_ = nullptr;
  Fiber* running_ = nullptr;
  unsigned n_threads_ = 0, n_live_ = 0, n_at_block_ = 0;
  uint64_t epoch_ = 0;  // of the block; never goes back
  bool gives_up_ = false, is_over_ = false;
  std::string wrong_;
};

Block& block() {
  thread_local Block own;
  return own;
}

boost::context::fiber Block::body(Fiber& fiber, boost::context::fiber&& scheduler) {
  scheduler_ = std::move(scheduler);
  while (!is_over_) {
    try {
      (*kernel_)();
    } catch (const GivenUp&) {
    }
    fiber.state = State::done;
    n_live_--;
    warps_[fiber.thread.warp()].n_live--;
    scheduler_ = std::move(scheduler_).resume();
  }
  return std::move(scheduler_);
}

// Fibers come to their own end: nothing is unwound.
Block::~Block() {
  is_over_ = true;
  for (const std::unique_ptr<Fiber>& fiber : fibers_) resume(*fiber);
}

void Block::resume(Fiber& fiber) {
  running_ = &fiber;
  running = &fiber.thread;
  fiber.fiber = std::move(fiber.fiber).resume();
}

void Block::wait(State state) {
  Fiber& own = *running_;
  own.state = state;
  scheduler_ = std::move(scheduler_).resume();
  if (gives_up_) throw GivenUp();
}

void Block::release_block() {
  n_at_block_ = 0;
  epoch_++;
  for (unsigned i = 0; i < n_threads_; i++) {
    Fiber& fiber = *fibers_[i];
    if (fiber.state == State::at_block) fiber.state = State::ready;
    fiber.thread.block_epoch = epoch_;
  }
}

void Block::wait_for_block() {
  if (++n_at_block_ == n_live_ && n_live_ == n_threads_) {
    release_block();
    return;
  }
  wait(State::at_block);
}

const Words* Block::share(const Words& words) {
  Thread& own = running_->thread;
  Warp& warp = warps_[own.warp()];
  Words* const of_lanes = warp.words[warp.n_exchanges % 2];
  of_lanes[own.id % warp_size] = words;
  if (++warp.n_waiting == warp_size) {
    warp.n_waiting = 0;
    warp.n_exchanges++;
    warp.epoch++;
    for (unsigned i = 0; i < warp_size; i++) {
      Fiber& lane = *fibers_[own.warp() * warp_size + i];
      if (lane.state == State::at_warp) lane.state = State::ready;
      lane.thread.warp_epoch = warp.epoch;
    }
  } else {
    wait(State::at_warp);
  }
  return of_lanes;
}

bool Block::run_ready(const std::vector<unsigned>& order) {
  bool any = false;
  for (const unsigned id : order) {
    Fiber& fiber = *fibers_[id];
    if (fiber.state != State::ready) continue;
    resume(fiber);
    any = true;
  }
  return any;
}

void Block::run_block(Dim3 index) {
  n_live_ = n_threads_;
  n_at_block_ = 0;
  epoch_++;
  for (Warp& warp : warps_) warp.n_live = warp_size, warp.n_waiting = 0;
  for (unsigned i = 0; i < n_threads_; i++) {
    Fiber& fiber = *fibers_[i];
    fiber.state = State::ready;
    fiber.thread.block = index;
    fiber.thread.block_epoch = fiber.thread.first_epoch = epoch_;
    fiber.thread.copies.clear();
  }
  while (n_live_ > 0) {
    if (run_ready(order_)) continue;
    report("a barrier or shuffle that not all threads reach");
    gives_up_ = true;
    for (unsigned i = 0; i < n_threads_; i++) {
      if (fibers_[i]->state != State::done) resume(*fibers_[i]);
    }
    gives_up_ = false;
  }
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
  while (fibers_.size() < n_threads_) {
    Fiber& fiber = *fibers_.emplace_back(std::make_unique<Fiber>());
    fiber.fiber = boost::context::fiber(std::allocator_arg, stacks_, [this, &fiber](boost::context::fiber&& scheduler) {
      return body(fiber, std::move(scheduler));
    });
  }
  warps_.resize(n_threads_ / warp_size);
  order_ = ids_in(order, n_threads_);
  for (unsigned i = 0; i < n_threads_; i++) {
    Thread& thread = fibers_[i]->thread;
    thread.id = i;
    thread.index = Dim3(i, 0, 0);
    thread.block_size = size;
    thread.grid_size = grid;
  }
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
void wait_for_block() { block().wait_for_block(); }
const Words* share(const Words& words) { return block().share(words); }
uint64_t exchange(uint64_t value, unsigned from) {
  const Words& words = share({static_cast<uint32_t>(value), static_cast<uint32_t>(value >> 32)})[from % warp_size];
  return uint64_t{words[1]} << 32 | words[0];
}
void report(const std::string& what) { block().report(what); }
void check_mask(unsigned mask) {
  if (mask != 0xffffffffu) report("a shuffle among some lanes, which the emulation does not know");
}

}  // namespace emulated
