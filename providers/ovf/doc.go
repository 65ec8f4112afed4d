// Package ovf writes the OVF package of an exported VM: the descriptor, made from what the driver told of the VM and from the files that were
// really written, and the manifest with their digests. It also turns names that come from a source into names that are safe as files.
//
// It writes and does not read: nothing here parses an OVF, and nothing here knows a platform, a target or a disk format beyond the URI that
// names it in a descriptor.
//
// The descriptor follows DMTF DSP0243 1.1, the version that every importer reads, with the elements of VMware's namespace that carry what
// 1.1 has no word for (firmware, secure boot, the exact guest type).
package ovf
