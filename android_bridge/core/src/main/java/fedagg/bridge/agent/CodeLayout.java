package fedagg.bridge.agent;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.model.AutoencoderFile;
import java.nio.ByteBuffer;
import java.util.Map;

/** What the bytes of an embedding mean, as the autoencoder's file says (docs/autoencoder.md): by the C++ codecs. */
public abstract class CodeLayout {
  private CodeLayout() {}

  /** Bytes of one sample's code. */
  abstract int bytes(DistillationCore core);

  abstract void encode(DistillationCore core, ByteBuffer latents, int rows, ByteBuffer codes);

  abstract void decode(DistillationCore core, ByteBuffer codes, int rows, ByteBuffer latents);

  /** What an autoencoder's file says. */
  public static CodeLayout of(AutoencoderFile file) {
    return file.isAffine()
        ? affine(file.codeLow(), file.codeStep())
        : tables(file.bits(), file.levelScale(), file.tables());
  }

  /** "uint8-affine-per-channel": a byte a value, value ~ low + code * step; both spread over all values. */
  public static CodeLayout affine(float[] low, float[] step) {
    ByteBuffer lowBuffer = Buffers.of(low);
    ByteBuffer stepBuffer = Buffers.of(step);
    int values = low.length;
    return new CodeLayout() {
      @Override
      int bytes(DistillationCore core) {
        return values;
      }

      @Override
      void encode(DistillationCore core, ByteBuffer latents, int rows, ByteBuffer codes) {
        core.encodeAffine(rows, values, latents, lowBuffer, stepBuffer, null, codes);
      }

      @Override
      void decode(DistillationCore core, ByteBuffer codes, int rows, ByteBuffer latents) {
        core.decodeAffine(rows, values, codes, lowBuffer, stepBuffer, latents);
      }
    };
  }

  /**
   * "packed-bits-tables": value ~ table[code] * scale with {@code bits} (0 to 8; 0 is not sent) for each value.
   *
   * @param tables for each number of bits that occurs its levels, rising
   */
  public static CodeLayout tables(byte[] bits, float[] scale, Map<Integer, float[]> tables) {
    ByteBuffer bitsBuffer = Buffers.of(bits);
    int values = bits.length;
    return new CodeLayout() {
      @Override
      int bytes(DistillationCore core) {
        return core.packedBytes(values, bitsBuffer);
      }

      @Override
      void encode(DistillationCore core, ByteBuffer latents, int rows, ByteBuffer codes) {
        ByteBuffer levels = Buffers.bytes(rows * values);
        for (int i = 0; i < rows * values; i++) {
          int d = i % values;
          if (bits[d] > 0) {
            levels.put(i, nearest(tables.get((int) bits[d]), latents.getFloat(4 * i) / scale[d]));
          }
        }
        core.packBits(rows, values, levels, bitsBuffer, codes);
      }

      @Override
      void decode(DistillationCore core, ByteBuffer codes, int rows, ByteBuffer latents) {
        ByteBuffer levels = Buffers.bytes(rows * values);
        core.unpackBits(rows, values, codes, bitsBuffer, levels);
        for (int i = 0; i < rows * values; i++) {
          int d = i % values;
          latents.putFloat(4 * i, bits[d] == 0 ? 0 : tables.get((int) bits[d])[levels.get(i) & 0xff] * scale[d]);
        }
      }
    };
  }

  /** The level whose interval holds {@code value}; an edge belongs to the level above it. */
  private static byte nearest(float[] table, float value) {
    int level = 0;
    while (level + 1 < table.length && value >= (table[level + 1] + table[level]) / 2) {
      level++;
    }
    return (byte) level;
  }
}
