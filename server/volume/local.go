package volume

// LocalImage returns the path that a file URL names; other URLs are not local. A path outside the image directory is PermissionDenied.
func (m *Maker) LocalImage(rawURL string) (path string, local bool, err error) {
	return m.localImage(rawURL)
}
