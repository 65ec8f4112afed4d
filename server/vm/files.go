package vm

// SnapshotFile is where the snapshot of a volume lies: beside the volume, so that it goes with the VM.
func SnapshotFile(volume, snapshot string) string { return volume + ".snapshot." + snapshot }

// DebugFile is where the volume lies that a VM is debugged from: beside its root volume, always raw.
func DebugFile(root string) string { return root + ".debug" }
