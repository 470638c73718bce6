// Aligned memory that is asked for before the threads start, so that running out of it is an exception.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <utility>

namespace genfast::engine {

// `count` elements of T on a cache line, and 64 bytes more that may be read. Large blocks ask for huge pages: weights and
// caches are walked through again and again, and their small pages would not fit the page tables that a core keeps at hand.
template <class T>
class Memory {
 public:
  Memory() = default;
  explicit Memory(int64_t count) {
    if (count < 0 || uint64_t(count) > (std::numeric_limits<size_t>::max() / 4) / sizeof(T)) throw std::bad_alloc();
    bytes_ = (size_t(count) * sizeof(T) + 64 + kHuge - 1) / kHuge * kHuge;
    if (bytes_ < 2 * kHuge) bytes_ = size_t(count) * sizeof(T) + 64;
    const bool huge = bytes_ >= 2 * kHuge;
    data_ = static_cast<T*>(::operator new(bytes_, std::align_val_t(align_ = huge ? kHuge : 64)));
#ifdef MADV_HUGEPAGE
    if (huge) madvise(data_, bytes_, MADV_HUGEPAGE);
#endif
  }
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(align_, other.align_);
    return *this;
  }
  ~Memory() {
    if (data_) ::operator delete(data_, std::align_val_t(align_));
  }
  T* get() const { return data_; }

 private:
  static constexpr size_t kHuge = 2 << 20;
  T* data_ = nullptr;
  size_t bytes_ = 0, align_ = 64;
};

}  // namespace genfast::engine
