#include "fedagg/pages.h"

#ifdef __linux__
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace fedagg {
namespace {

struct Look {
    unsigned long long seen;
    unsigned long long loads;
};

// Whether relocations were written into the read-only segments: their pages are this process's alone then.
bool has_text_relocations(const dl_phdr_info& object) {
    for (std::size_t i = 0; i < object.dlpi_phnum; ++i) {
        const ElfW(Phdr)& header = object.dlpi_phdr[i];
        if (header.p_type != PT_DYNAMIC) continue;
        for (auto entry = reinterpret_cast<const ElfW(Dyn)*>(object.dlpi_addr + header.p_vaddr); entry->d_tag != DT_NULL;
             ++entry) {
            if (entry->d_tag == DT_TEXTREL) return true;
            if (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL) != 0) return true;
        }
    }
    return false;
}

int unmap(dl_phdr_info* object, std::size_t size, void* given) {
    Look& look = *static_cast<Look*>(given);
    if (size < offsetof(dl_phdr_info, dlpi_adds) + sizeof object->dlpi_adds) return 1;  // an older C library
    look.loads = object->dlpi_adds;
    if (look.loads == look.seen) return 1;
    // the kernel's own pages are in no file
    if (object->dlpi_addr == getauxval(AT_SYSINFO_EHDR) || has_text_relocations(*object)) return 0;
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    for (std::size_t i = 0; i < object->dlpi_phnum; ++i) {
        const ElfW(Phdr)& header = object->dlpi_phdr[i];
        // what was relocated and made read-only then (PT_GNU_RELRO) lies in a segment that may be written
        if (header.p_type != PT_LOAD || (header.p_flags & PF_W) != 0) continue;
        const std::uintptr_t start = (object->dlpi_addr + header.p_vaddr + page - 1) / page * page;
        const std::uintptr_t end = (object->dlpi_addr + header.p_vaddr + header.p_memsz) / page * page;
        // what cannot be unmapped, as locked memory, stays
        if (start < end) madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
    }
    return 0;
}

}  // namespace

// The loader's lock is held meanwhile: no library goes away and nothing else takes its addresses.
unsigned long long unmap_loaded_pages(unsigned long long seen) noexcept {
    Look look{seen, 0};
    dl_iterate_phdr(&unmap, &look);
    return look.loads;
}

}  // namespace fedagg
#else
namespace fedagg {

unsigned long long unmap_loaded_pages(unsigned long long) noexcept { return 0; }

}  // namespace fedagg
#endif
