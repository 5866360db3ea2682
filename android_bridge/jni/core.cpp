// A core's handle, and which instruction set the kernels run on.
#include <string>

#include "errors.h"
#include "fedagg/cpu.h"
#include "fedagg/error.h"
#include "natives.h"
#include "views.h"

namespace fedagg::jni {

Core& core_of(jlong handle) {
    if (handle == 0) throw ArgumentError("core: got no handle; it was never opened, or is closed");
    return *reinterpret_cast<Core*>(handle);
}

jlong open(JNIEnv* env, jclass, jint threads) {
    return guarded(env, jlong{0}, [&] {
        if (threads < 1) {
            throw ArgumentError("threads: got " + std::to_string(threads) + ", expected 1 or more");
        }
        active_kernels();  // a wrong FEDAGG_FORCE_ISA is an error now, not at the first call
        return reinterpret_cast<jlong>(new Core{static_cast<unsigned>(threads)});
    });
}

void close(JNIEnv*, jclass, jlong handle) { delete reinterpret_cast<Core*>(handle); }

jobjectArray available_isas(JNIEnv* env, jclass) {
    return guarded(env, jobjectArray{nullptr}, [&]() -> jobjectArray {
        const auto& tables = available_kernels();
        jclass const text = env->FindClass("java/lang/String");
        if (text == nullptr) return nullptr;
        jobjectArray const names = env->NewObjectArray(static_cast<jsize>(tables.size()), text, nullptr);
        for (std::size_t i = 0; names != nullptr && i < tables.size(); ++i) {
            jstring const name = env->NewStringUTF(tables[i]->name);
            if (name == nullptr) return nullptr;
            env->SetObjectArrayElement(names, static_cast<jsize>(i), name);
            env->DeleteLocalRef(name);
        }
        return names;
    });
}

jstring active_isa(JNIEnv* env, jclass) {
    return guarded(env, jstring{nullptr}, [&] { return env->NewStringUTF(active_kernels().name); });
}

void set_active_isa(JNIEnv* env, jclass, jstring name) {
    guarded(env, [&] {
        if (name == nullptr) throw ArgumentError("isa: got null, expected a name");
        const char* const text = env->GetStringUTFChars(name, nullptr);
        if (text == nullptr) return;
        const std::string wanted(text);
        env->ReleaseStringUTFChars(name, text);
        fedagg::set_active_isa(wanted);
    });
}

}  // namespace fedagg::jni
