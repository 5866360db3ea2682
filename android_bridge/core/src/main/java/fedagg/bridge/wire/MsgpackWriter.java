package fedagg.bridge.wire;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Writes the msgpack that the protocol uses: arrays, integers, binary64, texts, bytes, booleans and nil, shortest form. */
public final class MsgpackWriter {
  private byte[] bytes = new byte[256];
  private int size;

  /** All that was written. */
  public byte[] toBytes() {
    return Arrays.copyOf(bytes, size);
  }

  public MsgpackWriter array(int length) {
    if (length < 16) {
      return one(0x90 | length);
    }
    return length < 1 << 16 ? tagged(0xdc, 2, length) : tagged(0xdd, 4, length);
  }

  public MsgpackWriter integer(long value) {
    if (value >= 0) {
      if (value < 128) {
        return one((int) value);
      }
      if (value < 1 << 8) {
        return tagged(0xcc, 1, value);
      }
      if (value < 1 << 16) {
        return tagged(0xcd, 2, value);
      }
      return value < 1L << 32 ? tagged(0xce, 4, value) : tagged(0xcf, 8, value);
    }
    if (value >= -32) {
      return one((int) value);
    }
    if (value >= Byte.MIN_VALUE) {
      return tagged(0xd0, 1, value);
    }
    if (value >= Short.MIN_VALUE) {
      return tagged(0xd1, 2, value);
    }
    return value >= Integer.MIN_VALUE ? tagged(0xd2, 4, value) : tagged(0xd3, 8, value);
  }

  public MsgpackWriter number(double value) {
    return tagged(0xcb, 8, Double.doubleToRawLongBits(value));
  }

  public MsgpackWriter bool(boolean value) {
    return one(value ? 0xc3 : 0xc2);
  }

  public MsgpackWriter nil() {
    return one(0xc0);
  }

  public MsgpackWriter text(String value) {
    byte[] utf8 = value.getBytes(StandardCharsets.UTF_8);
    if (utf8.length < 32) {
      one(0xa0 | utf8.length);
    } else if (utf8.length < 1 << 8) {
      tagged(0xd9, 1, utf8.length);
    } else if (utf8.length < 1 << 16) {
      tagged(0xda, 2, utf8.length);
    } else {
      tagged(0xdb, 4, utf8.length);
    }
    return raw(utf8);
  }

  public MsgpackWriter bytes(byte[] value) {
    if (value.length < 1 << 8) {
      tagged(0xc4, 1, value.length);
    } else if (value.length < 1 << 16) {
      tagged(0xc5, 2, value.length);
    } else {
      tagged(0xc6, 4, value.length);
    }
    return raw(value);
  }

  private MsgpackWriter one(int value) {
    reserve(1);
    bytes[size++] = (byte) value;
    return this;
  }

  private MsgpackWriter tagged(int tag, int width, long value) {
    one(tag);
    reserve(width);
    for (int shift = 8 * (width - 1); shift >= 0; shift -= 8) {
      bytes[size++] = (byte) (value >>> shift);
    }
    return this;
  }

  private MsgpackWriter raw(byte[] value) {
    reserve(value.length);
    System.arraycopy(value, 0, bytes, size, value.length);
    size += value.length;
    return this;
  }

  private void reserve(int more) {
    int wanted = Math.addExact(size, more);
    if (wanted > bytes.length) {
      bytes = Arrays.copyOf(bytes, (int) Math.min(Integer.MAX_VALUE - 8, Math.max(wanted, 2L * bytes.length)));
    }
  }
}
