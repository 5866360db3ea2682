package fedagg.bridge.kernels;

import java.nio.ByteBuffer;

/** One batch for {@link DistillationCore#distill}: where its arrays lie. Each begins at its buffer's position. */
public final class DistillBatch {
  final int rows;
  final int classes;
  ByteBuffer student;
  Logits teacher;
  ByteBuffer labels;
  ByteBuffer mask;
  ByteBuffer rowWeights;
  ByteBuffer gradient;

  public DistillBatch(int rows, int classes) {
    this.rows = rows;
    this.classes = classes;
  }

  /** The student's logits, binary32 [rows, classes]. */
  public DistillBatch student(ByteBuffer buffer) {
    student = buffer;
    return this;
  }

  /** The teacher's logits [rows, classes]; without them the weight of the divergence must be 0. */
  public DistillBatch teacher(Logits logits) {
    teacher = logits;
    return this;
  }

  /** Labels, 8-byte integers [rows]; without them the weight of the cross-entropy must be 0. */
  public DistillBatch labels(ByteBuffer buffer) {
    labels = buffer;
    return this;
  }

  /** Bytes [rows]: a row whose byte is 0 gets gradient 0 and counts in no mean, whatever it holds. */
  public DistillBatch mask(ByteBuffer buffer) {
    mask = buffer;
    return this;
  }

  /** Binary32 weights [rows], 0 or more: a weighted mean in place of a plain one. */
  public DistillBatch rowWeights(ByteBuffer buffer) {
    rowWeights = buffer;
    return this;
  }

  /** Receives d loss / d student, binary32 [rows, classes]; may be the student's memory, overlaps no other input. */
  public DistillBatch gradient(ByteBuffer buffer) {
    gradient = buffer;
    return this;
  }
}
