package android.content;

/** Not Android's class: its name, for the checks of this folder. */
public abstract class Context {}
