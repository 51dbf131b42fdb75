// Pieces of memory that are wanted again and again, some megabytes for each update. A piece given
// back is kept for whoever wants as much next: memory that comes anew from the system is cleared
// page by page, which takes as long as what is computed in it.

#pragma once

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

class Pieces {
    static constexpr size_t MOST = 4;               // pieces that are kept
    static constexpr size_t LARGEST = 64ull << 20;  // bytes of such a piece

    struct Piece {
        void *memory;
        size_t bytes;
    };

    std::mutex lock;
    std::vector<Piece> kept;  // the one given back last is the last

   public:
    Pieces() { kept.reserve(MOST + 1); }

    // Memory of any content, aligned as vectors have to be.
    void *take(size_t bytes, size_t alignment) {
        {
            std::lock_guard<std::mutex> alone(lock);
            for (size_t i = kept.size(); i-- > 0;) {
                if (kept[i].bytes != bytes) continue;
                void *memory = kept[i].memory;
                kept.erase(kept.begin() + i);
                return memory;
            }
        }
        size_t whole = (bytes + alignment - 1) / alignment * alignment;
        void *memory = std::aligned_alloc(alignment, whole);
        if (memory) return memory;
        release();  // there is no more than what is kept
        memory = std::aligned_alloc(alignment, whole);
        if (!memory) throw std::bad_alloc();
        return memory;
    }

    void release() {
        std::lock_guard<std::mutex> alone(lock);
        for (const Piece &piece : kept) std::free(piece.memory);
        kept.clear();
    }

    // Of `take`, and of as many bytes.
    void give_back(void *memory, size_t bytes) {
        void *released = memory;
        if (bytes <= LARGEST) {
            std::lock_guard<std::mutex> alone(lock);
            kept.push_back({memory, bytes});
            released = nullptr;
            if (kept.size() > MOST) {
                released = kept.front().memory;
                kept.erase(kept.begin());
            }
        }
        std::free(released);
    }
};
