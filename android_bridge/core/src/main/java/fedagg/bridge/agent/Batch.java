package fedagg.bridge.agent;

import java.nio.ByteBuffer;

/**
 * What one step sees: for each row the private sample, its bridge sample, its label and the teacher's logits. Buffers are
 * direct, in the machine's byte order, and begin at 0.
 */
public final class Batch {
  public final int rows;
  /** binary32 [rows, sampleFloats]. */
  public final ByteBuffer privateSamples;
  /** binary32 [rows, sampleFloats]. */
  public final ByteBuffer bridgeSamples;
  /** 8-byte integers [rows]. */
  public final ByteBuffer labels;
  /** binary32 [rows, classes]. */
  public final ByteBuffer teacher;

  public Batch(int rows, ByteBuffer privateSamples, ByteBuffer bridgeSamples, ByteBuffer labels, ByteBuffer teacher) {
    this.rows = rows;
    this.privateSamples = privateSamples;
    this.bridgeSamples = bridgeSamples;
    this.labels = labels;
    this.teacher = teacher;
  }
}
