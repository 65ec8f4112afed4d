// Package image is the LocalImageService, which keeps the host's images by name, and the ImageService, which replaces, patches, debugs and scans the root
// volumes of VMs by images.
//
// A root volume is replaced by another file of the same name: the new one is made whole beside it (NewFile), and then takes its place, together with what
// the VM's record says of it. A note in the store makes both happen, or none, also if the daemon ends in between.
package image
