// The address of memory that belongs to a device, and that the host may not be able to read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace finermoe {

// Can be moved and compared, but not dereferenced: only the device that owns the memory asks for the address.
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
  // For the device's own code alone (tests/project/source_rules.py sees to that).
  T* address() const { return reinterpret_cast<T*>(address_); }

 private:
  uintptr_t address_ = 0;
};

}  // namespace finermoe
