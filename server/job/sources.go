package job

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"strings"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// Providers are the platforms that VMs can be exported from.
type Providers interface {
	Names() []string
	// Open logs in. An unknown name is InvalidArgument and lists those there are.
	Open(ctx context.Context, name string, s driver.Settings, log *slog.Logger) (driver.Driver, error)
}

// Sources opens the platforms that requests and jobs name.
type Sources struct {
	Log       *slog.Logger
	Providers Providers
	// Default is used where a request names no source; its password is DefaultPassword.
	Default         *exportv1.Source
	DefaultPassword string
	// DefaultCAFile is a file of certificates to trust for the default source.
	DefaultCAFile string
	Parallel      int
}

// resolve returns the source that a request means, without its password, and the password apart.
func (s *Sources) resolve(src *exportv1.Source) (*exportv1.Source, string, error) {
	if src.GetUrl() == "" {
		if s.Default.GetUrl() == "" {
			return nil, "", fault.New(fault.InvalidArgument, "source: is missing, and the daemon's configuration names none (vcenter_url or GOVC_URL)")
		}
		if src.GetUsername() != "" || src.GetPassword() != "" {
			return nil, "", fault.New(fault.InvalidArgument, "source.url: is missing; a user or password is only good together with it")
		}
		return &exportv1.Source{Provider: s.Default.GetProvider()}, "", nil
	}
	if u, err := url.Parse(src.GetUrl()); err == nil && u.User != nil {
		return nil, "", fault.New(fault.InvalidArgument, "source.url: must not hold a user or password; use the fields")
	}
	clean := &exportv1.Source{
		Provider: src.GetProvider(), Url: src.GetUrl(), Username: src.GetUsername(), InsecureSkipVerify: src.GetInsecureSkipVerify(),
		CaPem: src.GetCaPem(), Thumbprint: src.GetThumbprint(),
	}
	if clean.GetProvider() == "" {
		clean.Provider = "vsphere"
	}
	return clean, src.GetPassword(), nil
}

// open logs in to a source that resolve returned.
func (s *Sources) open(ctx context.Context, src *exportv1.Source, password string, parallel int) (driver.Driver, error) {
	settings := driver.Settings{Parallel: parallel}
	if settings.Parallel == 0 {
		settings.Parallel = s.Parallel
	}
	if src.GetUrl() == "" {
		src, password = s.Default, s.DefaultPassword
		settings.CAFile = s.DefaultCAFile
	}
	settings.URL, settings.Username, settings.Password = src.GetUrl(), src.GetUsername(), driver.Secret(password)
	settings.InsecureSkipVerify, settings.Thumbprint = src.GetInsecureSkipVerify(), src.GetThumbprint()
	if pem := src.GetCaPem(); pem != "" {
		file, err := tempPEM(pem)
		if err != nil {
			return nil, err
		}
		defer os.Remove(file) //nolint:errcheck // a public certificate in the temp folder
		settings.CAFile = file
	}
	return s.Providers.Open(ctx, src.GetProvider(), settings, s.Log)
}

// tempPEM puts certificates where a driver reads them.
func tempPEM(pem string) (string, error) {
	f, err := os.CreateTemp("", "hyperplane-ca-*.pem")
	if err != nil {
		return "", fault.Wrap(err, "source.ca_pem")
	}
	_, err = f.WriteString(pem)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return f.Name(), fault.Wrap(err, "source.ca_pem")
}

// use opens a source, runs fn and closes it.
func (s *Sources) use(ctx context.Context, src *exportv1.Source, fn func(driver.Driver) error) error {
	clean, password, err := s.resolve(src)
	if err != nil {
		return err
	}
	d, err := s.open(ctx, clean, password, 0)
	if err != nil {
		return err
	}
	err = fn(d)
	if closed := d.Close(context.WithoutCancel(ctx)); err == nil {
		err = closed
	}
	return err
}

// describeSource is what logs call a source.
func describeSource(src *exportv1.Source, fallback *exportv1.Source) string {
	if src.GetUrl() == "" {
		src = fallback
	}
	return strings.TrimSpace(src.GetProvider() + " " + src.GetUrl())
}
