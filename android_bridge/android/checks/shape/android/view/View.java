package android.view;

/** Not Android's: see Context. */
public class View {}
