#include "placement/expert_cache.h"

#include <algorithm>

#include "format/tensor_table.h"
#include "placement/expert_cache_size.h"

namespace finermoe {

uint64_t ExpertCache::find_tensors(const Placement& placement) {
  visit_tensors(checkpoint_->config(), [&](const TensorSpec& spec) {
    if (!placement.is_fetched(spec)) return;
    Expert& expert = experts_[static_cast<size_t>(spec.expert_of_all)];
    const Tensor*& of_role = spec.role == TensorRole::gate ? expert.gate
                             : spec.role == TensorRole::up ? expert.up
                                                           : expert.down;
    of_role = checkpoint_->find(spec.name);
  });
  uint64_t largest = 0;
  for (const Expert& expert : experts_) {
    if (expert.gate == nullptr) continue;
    largest = std::max(largest, copied_bytes(expert.gate->bytes()) + copied_bytes(expert.up->bytes()) +
                                    copied_bytes(expert.down->bytes()));
  }
  return largest;
}

Result<std::unique_ptr<ExpertCache>> ExpertCache::make(std::shared_ptr<const Checkpoint> checkpoint,
                                                       const Placement& placement, uint64_t bytes,
                                                       std::span<FfnWeights> weights,
                                                       std::shared_ptr<ExpertPages> pages,
                                                       std::shared_ptr<MemoryAccount> account) {
  const uint64_t n_together = checkpoint->config().router.n_experts_per_token();
  std::unique_ptr<ExpertCache> cache(new ExpertCache(std::move(checkpoint), weights, std::move(pages)));
  cache->slot_bytes_ = cache->find_tensors(placement);
  const auto n_fetched = static_cast<uint64_t>(std::count_if(
      cache->experts_.begin(), cache->experts_.end(), [](const Expert& expert) { return expert.gate != nullptr; }));
  FM_ASSIGN(const ExpertCacheSize size, ExpertCacheSize::within(bytes, cache->slot_bytes_, n_together, n_fetched));
  const Backend& backend = *placement.devices[0].backend;
  FM_ASSIGN(cache->memory_, backend.allocate(size.bytes(), account, "the expert cache"));
  FM_ASSIGN(cache->copies_, backend.make_copy_queue(std::move(account)));
  cache->slots_.resize(size.n_slots);
  for (uint32_t slot = 0; slot < size.n_slots; slot++) {
    cache->slots_[slot].place = cache->recent_.insert(cache->recent_.end(), slot);
  }
  return cache;
}

uint32_t ExpertCache::free_slot() const {
  const auto free =
      std::find_if(recent_.rbegin(), recent_.rend(), [&](uint32_t slot) { return slots_[slot].n_passes == 0; });
  return free == recent_.rend() ? none : *free;
}

void ExpertCache::move_in(uint32_t expert, uint32_t slot) {
  if (slots_[slot].expert != none) forget(slots_[slot].expert);
  slots_[slot].expert = expert;
  experts_[expert].slot = slot;
  experts_[expert].is_coming = true;
}

void ExpertCache::forget(uint32_t expert) noexcept {
  slots_[experts_[expert].slot].expert = none;
  experts_[expert].slot = none;
  FfnWeights& weights = weights_[expert];
  weights.gate.data = weights.up.data = weights.down.data = {};
}

Status ExpertCache::copy(uint32_t expert) {
  const Expert& from = experts_[expert];
  FfnWeights& weights = weights_[expert];
  DevicePtr<std::byte> to = memory_->begin() + from.slot * slot_bytes_;
  for (auto [tensor, view] :
       {std::pair(from.gate, &weights.gate), std::pair(from.up, &weights.up), std::pair(from.down, &weights.down)}) {
    FM_TRY(copies_->copy({tensor->data, tensor->bytes()}, to));
    view->data = to;
    to = to + copied_bytes(tensor->bytes());
  }
  return {};
}

void ExpertCache::end_copy(uint32_t expert, bool is_done) noexcept {
  {
    const std::lock_guard lock(mutex_);
    experts_[expert].is_coming = false;
    if (!is_done) forget(expert);
  }
  changed_.notify_all();
}

// Where experts may have to be read from disk, one run is read while the one before it is copied; and by one pass at a
// time, so that none evicts pages that another is about to copy.
Status ExpertCache::copy(std::span<const uint32_t> experts) {
  struct Left {  // what has not been copied, whatever happens
    ExpertCache& cache;
    std::span<const uint32_t> rest;
    ~Left() {
      for (const uint32_t expert : rest) cache.end_copy(expert, false);
    }
  } left{*this, experts};
  std::unique_lock reading(reading_, std::defer_lock);
  if (pages_ != nullptr && !experts.empty()) reading.lock();
  std::span<const uint32_t> to_read = experts;
  const auto read_next = [&] {
    const size_t n = pages_ == nullptr || to_read.empty() ? to_read.size() : pages_->run_length(to_read);
    if (pages_ != nullptr && n > 0) pages_->will_use(to_read.first(n));
    to_read = to_read.subspan(n);
    return n;
  };
  for (size_t n = read_next(); n > 0;) {
    const size_t n_next = read_next();
    for (; n > 0; n--) {
      FM_TRY(copy(left.rest.front()));
      end_copy(left.rest.front(), true);
      left.rest = left.rest.subspan(1);
    }
    n = n_next;
  }
  return {};
}

void ExpertCache::take_slots(std::span<const uint32_t> experts, InUse& in_use, std::vector<uint32_t>& missing) {
  const auto slot_of = [&](uint32_t expert) { return experts_[expert].slot; };
  const auto touch = [&](uint32_t slot) { recent_.splice(recent_.begin(), recent_, slots_[slot].place); };

  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return slot_of(experts[0]) != none || free_slot() != none; });
  for (const uint32_t expert : experts) {  // those that are there make no room for the others
    if (slot_of(expert) != none) touch(slot_of(expert));
  }
  for (const uint32_t expert : experts) {
    const bool is_there = slot_of(expert) != none;
    const uint32_t slot = is_there ? slot_of(expert) : free_slot();
    if (slot == none) return;
    if (!is_there) {
      move_in(expert, slot);
      missing.push_back(expert);
      touch(slot);
    }
    slots_[slot].n_passes++;
    in_use.slots_.push_back(slot);
  }
}

bool ExpertCache::wait_until_copied(std::span<const uint32_t> experts, std::span<const uint32_t> slots) {
  std::unique_lock lock(mutex_);
  for (size_t i = 0; i < experts.size(); i++) {
    const Expert& expert = experts_[experts[i]];
    changed_.wait(lock, [&] { return !expert.is_coming; });
    if (expert.slot != slots[i]) return false;
  }
  return true;
}

// No pass waits for ever. It waits for a slot only while it has none, and for another's copies only when it has made
// its own. So one that copies waits for no pass, but for the one that reads from disk, which waits for none; one that
// has slots waits for copies alone, and releases them in the end; and one that has none finds a slot then.
Result<size_t> ExpertCache::fetch(size_t first_expert, std::span<const uint32_t> experts, InUse& in_use) {
  std::vector<uint32_t> of_all_layers(experts.begin(), experts.end()), missing;
  for (uint32_t& expert : of_all_layers) expert += static_cast<uint32_t>(first_expert);
  missing.reserve(experts.size());
  for (;;) {
    take_slots(of_all_layers, in_use, missing);
    FM_TRY(copy(missing));
    const size_t n = in_use.slots_.size();
    if (wait_until_copied(std::span(of_all_layers).first(n), in_use.slots_)) {
      const std::lock_guard lock(mutex_);
      counts_.hits += n - missing.size();
      counts_.misses += missing.size();
      return n;
    }
    in_use.release();  // another pass could not copy an expert that this one needs: perhaps this one can
    missing.clear();
  }
}

void ExpertCache::InUse::release() noexcept {
  if (cache_ == nullptr || slots_.empty()) return;
  cache_->release(slots_);
  slots_.clear();
}

void ExpertCache::release(std::span<const uint32_t> slots) noexcept {
  {
    const std::lock_guard lock(mutex_);
    for (const uint32_t slot : slots) slots_[slot].n_passes--;
  }
  changed_.notify_all();
}

ExpertCache::Counts ExpertCache::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace finermoe
