package fedagg.bridge.wire;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Reads one msgpack value strictly: the type that is asked for, within the bounds that are given, nothing behind it.
 * No length is believed before that many bytes are there.
 */
public final class MsgpackReader {
  private final byte[] bytes;
  private int at;

  public MsgpackReader(byte[] bytes) {
    this.bytes = bytes;
  }

  /** The length of an array of at most {@code most} items. */
  public int array(String field, int most) throws ProtocolException {
    int tag = next(field);
    long length;
    if ((tag & 0xf0) == 0x90) {
      length = tag & 0x0f;
    } else if (tag == 0xdc) {
      length = unsigned(field, 2);
    } else if (tag == 0xdd) {
      length = unsigned(field, 4);
    } else {
      throw wrong(field, tag, "an array");
    }
    if (length > most || length > bytes.length - at) { // an item has at least a byte
      throw new ProtocolException(
          field + ": got " + length + " items, expected at most " + Math.min(most, bytes.length - at));
    }
    return (int) length;
  }

  /** The head of a message: an array of exactly {@code fields} items. */
  public void message(String name, int fields) throws ProtocolException {
    int length = array(name, Integer.MAX_VALUE);
    if (length != fields) {
      throw new ProtocolException(name + ": got " + length + " fields, expected " + fields);
    }
  }

  public long integer(String field, long least, long most) throws ProtocolException {
    int tag = next(field);
    long value;
    if (tag < 0x80) {
      value = tag;
    } else if (tag >= 0xe0) {
      value = (byte) tag;
    } else if (tag >= 0xcc && tag <= 0xcf) {
      value = unsigned(field, 1 << (tag - 0xcc));
      if (value < 0) {
        throw new ProtocolException(field + ": got an integer of 2^63 or more, expected at most " + most);
      }
    } else if (tag >= 0xd0 && tag <= 0xd3) {
      int width = 1 << (tag - 0xd0);
      value = unsigned(field, width) << (64 - 8 * width) >> (64 - 8 * width);
    } else {
      throw wrong(field, tag, "an integer");
    }
    if (value < least || value > most) {
      throw new ProtocolException(field + ": got " + value + ", expected " + least + " to " + most);
    }
    return value;
  }

  /** A finite number in a range; an integer is one, too. */
  public double number(String field, double least, double most) throws ProtocolException {
    int tag = next(field);
    double value;
    if (tag == 0xcb) {
      value = Double.longBitsToDouble(unsigned(field, 8));
    } else if (tag == 0xca) {
      value = Float.intBitsToFloat((int) unsigned(field, 4));
    } else {
      at--;
      value = integer(field, Long.MIN_VALUE, Long.MAX_VALUE);
    }
    if (!(value >= least && value <= most)) { // NaN fails, too
      throw new ProtocolException(field + ": got " + value + ", expected " + least + " to " + most);
    }
    return value;
  }

  public boolean bool(String field) throws ProtocolException {
    int tag = next(field);
    if (tag != 0xc2 && tag != 0xc3) {
      throw wrong(field, tag, "a boolean");
    }
    return tag == 0xc3;
  }

  /** Whether nil comes next; it is then taken. */
  public boolean isNil(String field) throws ProtocolException {
    boolean nil = next(field) == 0xc0;
    if (!nil) {
      at--;
    }
    return nil;
  }

  /** A text of {@code least} to {@code most} characters (code points). */
  public String text(String field, int least, int most) throws ProtocolException {
    int tag = next(field);
    long length;
    if ((tag & 0xe0) == 0xa0) {
      length = tag & 0x1f;
    } else if (tag >= 0xd9 && tag <= 0xdb) {
      length = unsigned(field, 1 << (tag - 0xd9));
    } else {
      throw wrong(field, tag, "a text");
    }
    int size = take(field, length, 4L * most);
    ByteBuffer raw = ByteBuffer.wrap(bytes, at - size, size);
    String value;
    try {
      value =
          StandardCharsets.UTF_8.newDecoder().onMalformedInput(CodingErrorAction.REPORT)
              .onUnmappableCharacter(CodingErrorAction.REPORT).decode(raw).toString();
    } catch (CharacterCodingException error) {
      throw new ProtocolException(field + ": got " + length + " bytes that are no UTF-8");
    }
    int count = value.codePointCount(0, value.length());
    if (count < least || count > most) {
      throw new ProtocolException(field + ": got " + count + " characters, expected " + least + " to " + most);
    }
    return value;
  }

  /** {@code least} to {@code most} bytes. */
  public byte[] bytes(String field, int least, int most) throws ProtocolException {
    int tag = next(field);
    if (tag < 0xc4 || tag > 0xc6) {
      throw wrong(field, tag, "bytes");
    }
    int length = take(field, unsigned(field, 1 << (tag - 0xc4)), most);
    if (length < least) {
      throw new ProtocolException(field + ": got " + length + " bytes, expected at least " + least);
    }
    return Arrays.copyOfRange(bytes, at - length, at);
  }

  /** Whether anything is left. */
  public boolean hasMore() {
    return at < bytes.length;
  }

  /** Nothing may be left. */
  public void end(String name) throws ProtocolException {
    if (at != bytes.length) {
      throw new ProtocolException(name + ": got " + (bytes.length - at) + " bytes behind its end, expected none");
    }
  }

  private int next(String field) throws ProtocolException {
    if (at >= bytes.length) {
      throw new ProtocolException(field + ": got the end of the message, expected a value");
    }
    return bytes[at++] & 0xff;
  }

  private long unsigned(String field, int width) throws ProtocolException {
    if (bytes.length - at < width) {
      throw new ProtocolException(field + ": got the end of the message, expected " + width + " bytes");
    }
    long value = 0;
    for (int i = 0; i < width; i++) {
      value = value << 8 | bytes[at++] & 0xff;
    }
    return value;
  }

  private int take(String field, long length, long most) throws ProtocolException {
    if (length > most || length > bytes.length - at) {
      throw new ProtocolException(
          field + ": got " + length + " bytes, expected at most " + Math.min(most, bytes.length - at));
    }
    at += (int) length;
    return (int) length;
  }

  private static ProtocolException wrong(String field, int tag, String wanted) {
    return new ProtocolException(
        String.format("%s: got a value that begins with 0x%02x, expected %s", field, tag, wanted));
  }
}
