// The native methods of fedagg.bridge.kernels.Native, by topic; module.cpp registers them.
#pragma once

#include <jni.h>

namespace fedagg::jni {

// What a DistillationCore owns.
struct Core {
    unsigned threads = 1;
};

// Throws ArgumentError for a handle that was never opened.
Core& core_of(jlong handle);

jlong open(JNIEnv* env, jclass, jint threads);
void close(JNIEnv* env, jclass, jlong handle);
jobjectArray available_isas(JNIEnv* env, jclass);
jstring active_isa(JNIEnv* env, jclass);
void set_active_isa(JNIEnv* env, jclass, jstring name);

void distill(JNIEnv* env, jclass, jlong handle, jint rows, jint classes, jobject student, jint student_at, jobject teacher,
             jint teacher_at, jint teacher_type, jobject scale, jint scale_at, jobject labels, jint labels_at, jobject mask,
             jint mask_at, jobject weights, jint weights_at, jobject gradient, jint gradient_at, jdouble ce_weight,
             jdouble kl_weight, jdouble temperature, jdouble teacher_temperature, jboolean reverse, jdoubleArray loss);

void aggregate(JNIEnv* env, jclass, jlong handle, jint rows, jint classes, jobjectArray teachers, jobjectArray scales,
               jintArray places, jobject weights, jint weights_at, jobject sample_weights, jint sample_weights_at,
               jobject mask, jint mask_at, jint method, jdouble trim, jobject out, jint out_at);
void confidence(JNIEnv* env, jclass, jlong handle, jint rows, jint classes, jobject logits, jint at, jint type,
                jobject scale, jint scale_at, jobject out, jint out_at);

void to_f16(JNIEnv* env, jclass, jint count, jobject x, jint at, jobject out, jint out_at);
void from_f16(JNIEnv* env, jclass, jint count, jobject x, jint at, jobject out, jint out_at);
void quantise(JNIEnv* env, jclass, jint rows, jint classes, jobject x, jint at, jobject out, jint out_at, jobject scale,
              jint scale_at);
void dequantise(JNIEnv* env, jclass, jint rows, jint classes, jobject x, jint at, jobject scale, jint scale_at, jobject out,
                jint out_at);
void encode_affine(JNIEnv* env, jclass, jint rows, jint channels, jobject x, jint at, jobject low, jint low_at, jobject step,
                   jint step_at, jobject bits, jint bits_at, jobject out, jint out_at);
void decode_affine(JNIEnv* env, jclass, jint rows, jint channels, jobject x, jint at, jobject low, jint low_at, jobject step,
                   jint step_at, jobject out, jint out_at);
jint packed_bytes(JNIEnv* env, jclass, jint channels, jobject bits, jint bits_at);
void pack_bits(JNIEnv* env, jclass, jint rows, jint channels, jobject codes, jint at, jobject bits, jint bits_at, jobject out,
               jint out_at);
void unpack_bits(JNIEnv* env, jclass, jint rows, jint channels, jobject packed, jint at, jobject bits, jint bits_at,
                 jobject out, jint out_at);
void encode_top_k(JNIEnv* env, jclass, jint rows, jint classes, jint k, jobject x, jint at, jobject kept, jint kept_at,
                  jobject values, jint values_at, jobject rest, jint rest_at);
void decode_top_k(JNIEnv* env, jclass, jint rows, jint classes, jint k, jobject kept, jint kept_at, jobject values,
                  jint values_at, jobject rest, jint rest_at, jobject out, jint out_at);

void sgd_step(JNIEnv* env, jclass, jint count, jobject parameters, jint at, jobject gradient, jint gradient_at,
              jobject velocity, jint velocity_at, jfloat learning_rate, jfloat momentum, jfloat weight_decay,
              jboolean nesterov);

}  // namespace fedagg::jni
