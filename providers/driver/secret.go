package driver

import "log/slog"

// Secret is a text that is never printed: every formatting of it gives stars. Use Reveal where the text itself is needed.
type Secret string

const stars = "***"

// Reveal returns the text.
func (s Secret) Reveal() string { return string(s) }

// String returns stars, or nothing for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return stars
}

// GoString returns stars.
func (s Secret) GoString() string { return s.String() }

// MarshalText returns stars.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue returns stars.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
