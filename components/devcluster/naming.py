"""Provides the one class of the module jdk.naming.rmi that nodetool needs to reduced Java runtimes.

nodetool connects to a node by a name such as `rmi://127.0.0.1:7199/jmxrmi`. A reduced runtime, such as that from PyPI,
cannot look up such names. The Java compiler among Cassandra's jars compiles the class from the source below.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tfx_cassandra.components.devcluster.cache import new_folder
from tfx_cassandra.components.devcluster.distribution import Distribution
from tfx_cassandra.components.errors import DevClusterError

# java.naming requires these names of class and package: PREFIX.SCHEME.SCHEMEURLContextFactory.
_SOURCE = """package tfxcassandra.rmi;

import java.lang.reflect.Proxy;
import java.net.URI;
import java.rmi.registry.LocateRegistry;
import java.util.Hashtable;
import javax.naming.Context;
import javax.naming.Name;
import javax.naming.NamingException;
import javax.naming.spi.ObjectFactory;

public class rmiURLContextFactory implements ObjectFactory {
    public Object getObjectInstance(Object object, Name name, Context context, Hashtable<?, ?> environment) {
        Class<?>[] types = {Context.class};
        return Proxy.newProxyInstance(getClass().getClassLoader(), types, (proxy, method, arguments) -> {
            if (!method.getName().equals("lookup")) return null;
            URI uri = URI.create((String) arguments[0]);
            try {
                return LocateRegistry.getRegistry(uri.getHost(), uri.getPort()).lookup(uri.getPath().substring(1));
            } catch (Exception error) {
                throw (NamingException) new NamingException(error.getMessage()).initCause(error);
            }
        });
    }
}
"""


def rmi_options(java: Path, distribution: Distribution, cache: Path) -> list[str]:
    """Returns the java options, including the class path, with which nodetool finds a node by its RMI name.

    Args:
        java: the Java runtime for nodetool.
        distribution: Cassandra's jars.
        cache: folder that keeps the class for runtimes that need it.

    Raises:
        DevClusterError: the class is needed and cannot be compiled.
    """
    probe = subprocess.run([java, '--describe-module', 'jdk.naming.rmi'], check=False, capture_output=True)
    if probe.returncode == 0:
        return ['-cp', distribution.class_path]
    classes = cache / f'jdk.naming.rmi-{hashlib.sha256(_SOURCE.encode()).hexdigest()[:12]}'
    if not classes.exists():
        with new_folder(classes) as folder:
            _compile(java, distribution, folder)
    return ['-Djava.naming.factory.url.pkgs=tfxcassandra', '-cp', f'{distribution.class_path}:{classes}']


def _compile(java: Path, distribution: Distribution, folder: Path) -> None:
    source = folder / 'rmiURLContextFactory.java'
    source.write_text(_SOURCE)
    compiler: list[str | Path] = [java, '-cp', distribution.class_path, 'org.eclipse.jdt.internal.compiler.batch.Main']
    # Without its own class path the compiler would use Cassandra's jars, one of which has a package java.util.
    options = ['-17', '-nowarn', '-classpath', str(folder), '-d', str(folder)]
    result = subprocess.run([*compiler, *options, source], check=False, capture_output=True, text=True)
    if result.returncode:
        reason = ' '.join(result.stderr.split())
        raise DevClusterError(f'java: got {java} that cannot compile {source.name}, rule: a full Java 17 ({reason})')
