package vm

// SnapshotFile is where the snapshot of a volume lies: beside the volume, so that it goes with the VM.
func SnapshotFile(volume, snapshot string) string { return volume + ".snapshot." + snapshot }
