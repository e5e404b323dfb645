// An address in a device's memory, which the host may not be able to read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace finermoe {

// Supports pointer arithmetic and comparison, but not dereferencing: only the device that owns the memory uses the
// address.
template <class T>
class DevicePtr {
 public:
  DevicePtr() = default;
  explicit DevicePtr(T* address) : address_(reinterpret_cast<uintptr_t>(address)) {}
  static DevicePtr at(uintptr_t address) {
    DevicePtr pointer;
    pointer.address_ = address;
    return pointer;
  }
  template <class Other>
  requires std::is_convertible_v<Other*, T*> DevicePtr(DevicePtr<Other> other)
      : address_(other.number()) {}  // NOLINT: implicit, as T* converts to const T*

  explicit operator bool() const { return address_ != 0; }
  bool operator==(const DevicePtr&) const = default;
  DevicePtr operator+(uint64_t n) const { return at(address_ + n * sizeof(T)); }
  // The same memory as elements of another type.
  template <class Other>
  DevicePtr<Other> as() const {
    return DevicePtr<Other>::at(address_);
  }

  uintptr_t number() const { return address_; }
  // Only for the device's own code (tests/project/source_rules.py enforces that).
  T* address() const { return reinterpret_cast<T*>(address_); }

 private:
  uintptr_t address_ = 0;
};

}  // namespace finermoe
