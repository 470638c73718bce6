// Scratch memory that outlives the call. A fresh megabyte costs hundreds of page faults, as long as a small convolution takes, so
// each thread keeps what it used last, up to kKept bytes; larger blocks go back at once. Blocks come from mmap: aligned blocks of
// changing size fragment the C library's heap until it grows by megabytes a training step.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <vector>

namespace genfast {

class Scratch {
 public:
  explicit Scratch(size_t bytes) {
    auto& kept = pool();
    for (size_t i = 0; i < kept.size(); i++)
      if (kept[i].bytes >= bytes && kept[i].bytes <= 4 * bytes + kPage) {
        block_ = kept[i];
        kept.erase(kept.begin() + i);
        return;
      }
    block_.bytes = (bytes / kPage + 1) * kPage;
    block_.data = mmap(nullptr, block_.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block_.data == MAP_FAILED) throw std::bad_alloc();
  }
  ~Scratch() {
    auto& kept = pool();
    size_t total = block_.bytes;
    for (const Block& block : kept) total += block.bytes;
    while (total > kKept && !kept.empty()) {
      total -= kept.front().bytes;
      kept.front().release();
      kept.erase(kept.begin());
    }
    if (block_.bytes <= kKept)
      kept.push_back(block_);
    else
      block_.release();
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <class T>
  T* as() const {
    return static_cast<T*>(block_.data);
  }

 private:
  struct Block {
    void* data = nullptr;
    size_t bytes = 0;
    void release() const { munmap(data, bytes); }
  };
  struct Pool : std::vector<Block> {
    ~Pool() {
      for (const Block& block : *this) block.release();
    }
  };
  static constexpr size_t kPage = 4096;
  static constexpr size_t kKept = 64 << 20;
  static Pool& pool() {
    thread_local Pool pool;
    return pool;
  }
  Block block_;
};

}  // namespace genfast
