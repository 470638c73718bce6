// Maps in large pages. A page of 4 KB costs 2 microseconds to be cleared and mapped at its first use, and a training step of
// row_lstm writes 45 MB of new memory (h = 64, batch 16): a third of its time went there. With pages of 2 MB it is a fifteenth of
// that, and none for a block that was used before: some are kept. Asking for them under torch's own blocks would leave the ends of
// every block in small pages: all of it, at h = 16.
#pragma once

#include <sys/mman.h>

#include <mutex>
#include <vector>

#include "support/tensors.h"

namespace genfast {

constexpr uintptr_t kLargePage = 2 << 20;  // on x86 and arm64

// Blocks that tensors have given back, for the next tensor of the same size: a training step asks for the same ones every time.
// Tensors may be freed by any thread.
class KeptBlocks {
 public:
  struct Block {
    void* data;
    size_t bytes;
  };

  static KeptBlocks& all() {
    static KeptBlocks* const blocks = new KeptBlocks;  // outlives the last tensor
    return *blocks;
  }
  // A block of just this size, or null.
  void* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    for (size_t i = blocks_.size(); i-- > 0;)
      if (blocks_[i].bytes == bytes) {
        void* const data = blocks_[i].data;
        blocks_.erase(blocks_.begin() + i);
        total_ -= bytes;
        return data;
      }
    return nullptr;
  }
  // The oldest go back to the system when there are too many.
  void give(Block block) {
    const std::lock_guard lock(mutex_);
    blocks_.push_back(block);
    total_ += block.bytes;
    while (total_ > kMost) {
      munmap(blocks_.front().data, blocks_.front().bytes);
      total_ -= blocks_.front().bytes;
      blocks_.erase(blocks_.begin());
    }
  }

 private:
  static constexpr size_t kMost = 128 << 20;
  std::mutex mutex_;
  std::vector<Block> blocks_;
  size_t total_ = 0;
};

// An uninitialised tensor on the CPU. From half a large page on it has whole pages of its own, returned with its storage; it is
// torch.empty below that, and where the system has no large pages.
inline Tensor empty_in_large_pages(std::initializer_list<int64_t> sizes, ScalarType type, torch::headeronly::MemoryFormat format,
                                   torch::stable::Device device) {
  const auto usual = [&] { return torch::stable::empty(sizes, type, std::nullopt, device, std::nullopt, format); };
#if defined(MADV_HUGEPAGE)
  size_t bytes = torch::stable::empty({0}, type).element_size();
  for (const int64_t size : sizes) bytes *= size;
  if (bytes < kLargePage / 2) return usual();
  const size_t mapped = (bytes / kLargePage + 2) * kLargePage;  // one more, to begin where a page does; it is never touched
  void* block = KeptBlocks::all().take(mapped);
  const bool fresh = block == nullptr;
  if (fresh) block = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) return usual();  // which fails with torch's own sentence, if it does
  void* begin = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(block) + kLargePage - 1) / kLargePage * kLargePage);
  if (fresh) madvise(begin, mapped - kLargePage, MADV_HUGEPAGE);
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  const auto place = [&](size_t d) { strides[d] = stride, stride *= sizes.begin()[d]; };
  if (format == torch::headeronly::MemoryFormat::ChannelsLast)
    for (const size_t d : {1, 3, 2, 0}) place(d);
  else
    for (size_t d = sizes.size(); d-- > 0;) place(d);
  return torch::stable::from_blob(begin, sizes, strides, device, type, [block, mapped](void*) { KeptBlocks::all().give({block, mapped}); });
#else
  return usual();
#endif
}

}  // namespace genfast
