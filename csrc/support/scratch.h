// Scratch memory that outlives the call. A fresh megabyte costs hundreds of page faults, as long as a small convolution takes, so
// each thread keeps what it used last, up to kKept bytes; larger blocks go back at once.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <vector>

namespace genfast {

class Scratch {
 public:
  explicit Scratch(size_t bytes) {
    auto& kept = pool();
    for (size_t i = 0; i < kept.size(); i++)
      if (kept[i].bytes >= bytes && kept[i].bytes <= 4 * bytes + 4096) {
        block_ = kept[i];
        kept.erase(kept.begin() + i);
        return;
      }
    block_.bytes = (bytes + 63) / 64 * 64 + 64;
    block_.data = std::aligned_alloc(64, block_.bytes);
    if (block_.data == nullptr) throw std::bad_alloc();
  }
  ~Scratch() {
    auto& kept = pool();
    size_t total = block_.bytes;
    for (const Block& block : kept) total += block.bytes;
    while (total > kKept && !kept.empty()) {
      total -= kept.front().bytes;
      std::free(kept.front().data);
      kept.erase(kept.begin());
    }
    if (block_.bytes <= kKept)
      kept.push_back(block_);
    else
      std::free(block_.data);
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
  };
  struct Pool : std::vector<Block> {
    ~Pool() {
      for (const Block& block : *this) std::free(block.data);
    }
  };
  static constexpr size_t kKept = 64 << 20;
  static Pool& pool() {
    thread_local Pool pool;
    return pool;
  }
  Block block_;
};

}  // namespace genfast
