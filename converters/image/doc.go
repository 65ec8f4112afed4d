// Package image is what a disk image is to Hyperplane: a size, a map of extents, and bytes.
//
// Every source of disk content implements one of two interfaces. A Reader can be read anywhere: a file of any format, a volume of a
// local VM, a provider's disk with ranged reads. A Stream can only be read forward, as a network source delivers it. Formats live in
// sibling packages (raw, qcow2, vmdk, …), one folder each; package converters copies from any source to any format. Nothing here
// knows a format, a provider or a target.
//
// # Writing a format
//
// A format is a folder beside this one with a function Format that returns a [Format], and one line in package converters/all. It consists of up to
// four things, each of which may be missing.
//
// Open reads a file. It looks at the magic and returns [ErrWrongFormat] if the file is of another format: detection tries one format after the other.
// It then checks every number of the header before it uses it, reads no more than [MaxOpenBytes] whatever they say, and returns a [Reader]. Tables
// are not read in advance: package converters/internal/tables hands out their entries from pages it keeps for a while, so memory does not
// grow with the disk. The Reader's map is a function from an offset to what one entry says; converters/internal/mapped makes NextExtent and ReadAt
// of it. Files the image names are opened through [OpenOptions], which denies by default; an image of differences shows holes where
// its parent is to be asked, and converters/internal/overlay lays it over the parent. What is wrong with an image is an error from [Corruptf] and its
// siblings, with the place and the value.
//
// OpenStream reads the same format front to back, if that is possible: a [Stream] of chunks, each of which is decoded by the worker that needs it.
//
// Create begins an image and returns a [Writer], which decides where content goes and keeps the metadata; the copy does everything else. A format that
// holds plain content is a [Placer]: for a run of the disk it returns an offset in the file. One that encodes each unit is an [Appender], whose
// Encoders run in all workers while Append is called in the disk's order. Optional interfaces make more possible: [Planner] (metadata first),
// [Forwarder] (pipes and uploads), [Zeroer] (images of differences), [Restorer] (interrupted copies), [Redirector] (several files). [CreateOptions]
// that the format does not have are refused with [CreateOptions.Check]. The same options give the same bytes.
//
// Check examines the structure: a Reader that is a [Checker].
//
// The format's tests call imagetest.Run, which knows what all of this means: round trips, odd sizes, files cut anywhere, full disks, streams,
// pipes, and comparison with qemu-img, 7-Zip and libyal, which share no code with this package. They add images with each mistake the format can have,
// and a fuzz target.
package image
