// Shared memory that checks each access: its index, that something was written before it is read, and that accesses of
// two threads, one of them a write, have a barrier between them.
#pragma once

#include <memory>

#include "block.h"

namespace finermoe::cuda {

template <class T, unsigned N>
class SharedArray {
  // Who did something last, and when. Small, since each element has two.
  struct Access {
    uint32_t block_epoch, warp_epoch;
    uint16_t thread, warp;
  };
  static constexpr uint16_t several = UINT16_MAX;  // threads, or warps

  struct Cell {
    T value;
    Access written, read;
    bool is_on_its_way = false;  // by a copy that nobody has waited for

    // Whether another thread's access is not known to be over.
    static bool overlaps(const Access& access, const emulated::Running& own) {
      if (access.block_epoch != own.block_epoch || access.thread == own.id()) return false;
      return access.warp != own.warp() || access.warp_epoch == own.warp_epoch;
    }
    static Access access_of(const emulated::Running& own) {
      return {own.block_epoch, own.warp_epoch, static_cast<uint16_t>(own.id()), static_cast<uint16_t>(own.warp())};
    }
    T get() {
      const emulated::Running& own = emulated::current();
      if (!is_written_before(own)) check_written(own);
      if (read.block_epoch != own.block_epoch) {
        read = access_of(own);
      } else if (read.warp != several) {
        if (read.thread != own.id()) read.thread = several;
        if (read.warp != own.warp()) read.warp = several;
        read.warp_epoch = own.warp_epoch;
      }
      return value;
    }
    // In this block, before its last barrier: nothing else has to be checked.
    bool is_written_before(const emulated::Running& own) const {
      return written.block_epoch - own.first_epoch < own.block_epoch - own.first_epoch && !is_on_its_way;
    }
    [[gnu::noinline]] void check_written(const emulated::Running& own) const {
      if (written.block_epoch < own.first_epoch) emulated::report("shared memory is read before it is written");
      if (is_on_its_way) emulated::report("shared memory is read, and nobody has waited for its copy");
      if (overlaps(written, own)) emulated::report("shared memory is read, and no barrier is behind its write");
    }
    void set(T to) {
      const emulated::Running& own = emulated::current();
      if (overlaps(written, own)) emulated::report("shared memory is written by two threads without a barrier");
      if (overlaps(read, own)) emulated::report("shared memory is written, and no barrier is behind its reading");
      written = access_of(own);
      value = to;
      is_on_its_way = false;
    }
  };

 public:
  // A place for atomics: several threads may use it at once.
  class Place {
   public:
    explicit Place(Cell& cell) : cell_(cell) {}
    template <class Change>
    T change(const Change& change) const {
      const emulated::Running& own = emulated::current();
      if (cell_.written.block_epoch < own.first_epoch) emulated::report("shared memory is read before it is written");
      const T before = cell_.value;
      cell_.value = change(before);
      return before;
    }

   private:
    Cell& cell_;
  };
  class Element {
   public:
    explicit Element(Cell& cell) : cell_(cell) {}
    operator T() const { return cell_.get(); }  // NOLINT: as a reference to T
    Element& operator=(T value) {
      cell_.set(value);
      return *this;
    }
    Element& operator=(const Element& other) { return *this = static_cast<T>(other); }
    Place operator&() const { return Place(cell_); }
    // Part of a group of the running thread's copies.
    void begin_copy(T value) {
      cell_.set(value);
      cell_.is_on_its_way = true;
      emulated::Copies& copies = *emulated::current().copies;
      copies.begun.push_back({copies.n_groups, finish_copy, &cell_});
    }

   private:
    static void finish_copy(void* copied) {
      Cell& cell = *static_cast<Cell*>(copied);
      cell.set(cell.value);
    }
    Cell& cell_;
  };

  Element operator[](unsigned index) {
    if (cells_ == nullptr) cells_ = std::make_unique<Cell[]>(N + 1);
    if (index >= N) {
      emulated::report("shared memory: an index beyond the end of its array");
      return Element(cells_[N]);
    }
    return Element(cells_[index]);
  }

 private:
  // The last one stands for all that are not there. Not in the array itself: what a module has for each thread is
  // little.
  std::unique_ptr<Cell[]> cells_;
};

}  // namespace finermoe::cuda
