package fedagg.bridge.state;

import java.lang.reflect.Field;

/** Breaks the file under an open state, as a disk does. */
public final class JournalFaults {
  private JournalFaults() {}

  public static void closeUnder(DeviceState state) throws Exception {
    Field field = DeviceState.class.getDeclaredField("journal");
    field.setAccessible(true);
    ((Journal) field.get(state)).close();
  }
}
