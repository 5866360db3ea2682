package android.content;

import android.content.res.AssetManager;
import java.io.File;

/** Not Android's class: its shape as far as it is used, for the checks of this folder. */
public abstract class Context {
  public File getNoBackupFilesDir() {
    throw new UnsupportedOperationException();
  }

  public AssetManager getAssets() {
    throw new UnsupportedOperationException();
  }
}
