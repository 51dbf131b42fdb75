// A pool of memory buffers of some megabytes, which each update needs again. A released buffer is
// kept for the next request of the same size: the system clears new memory page by page, which
// takes as long as the computation in it.

#pragma once

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

class BufferPool {
    static constexpr size_t MAX_BUFFERS = 4;                 // unused buffers in the pool
    static constexpr size_t MAX_BUFFER_BYTES = 64ull << 20;  // a larger buffer is freed at once

    struct Buffer {
        void *memory;
        size_t bytes;
    };

    std::mutex lock;
    std::vector<Buffer> buffers;  // the last one was released last

   public:
    BufferPool() { buffers.reserve(MAX_BUFFERS + 1); }

    // Uninitialized memory with this alignment.
    void *acquire(size_t bytes, size_t alignment) {
        {
            std::lock_guard<std::mutex> guard(lock);
            for (size_t i = buffers.size(); i-- > 0;) {
                if (buffers[i].bytes != bytes) continue;
                void *memory = buffers[i].memory;
                buffers.erase(buffers.begin() + i);
                return memory;
            }
        }
        size_t rounded = (bytes + alignment - 1) / alignment * alignment;
        void *memory = std::aligned_alloc(alignment, rounded);
        if (memory) return memory;
        clear();  // free the pool and try again
        memory = std::aligned_alloc(alignment, rounded);
        if (!memory) throw std::bad_alloc();
        return memory;
    }

    void clear() {
        std::lock_guard<std::mutex> guard(lock);
        for (const Buffer &buffer : buffers) std::free(buffer.memory);
        buffers.clear();
    }

    // Returns memory from `acquire`, with the same number of bytes, to the pool.
    void release(void *memory, size_t bytes) {
        void *excess = memory;
        if (bytes <= MAX_BUFFER_BYTES) {
            std::lock_guard<std::mutex> guard(lock);
            buffers.push_back({memory, bytes});
            excess = nullptr;
            if (buffers.size() > MAX_BUFFERS) {
                excess = buffers.front().memory;
                buffers.erase(buffers.begin());
            }
        }
        std::free(excess);
    }
};
