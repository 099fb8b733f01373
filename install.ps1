<#
.SYNOPSIS
    Install modelhost-exporter for this user, upgrade it, or remove it.
.DESCRIPTION
    The environment is its own, in %LOCALAPPDATA%\modelhost-exporter. Python 3.11 or later is used if there is one,
    otherwise uv fetches one into the same folder.
.EXAMPLE
    powershell -ExecutionPolicy Bypass -File install.ps1 -Service -Open
#>
[CmdletBinding()]
param(
    # A wheel, or a requirement such as modelhost-exporter==0.1.0, instead of the newest release.
    [string] $From = 'modelhost-exporter',
    # Start it now and whenever this user logs on.
    [switch] $Service,
    # Open the live page in the browser at the end.
    [switch] $Open,
    # Remove the task, the program and its folder.
    [switch] $Uninstall
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
$root = Join-Path $env:LOCALAPPDATA 'modelhost-exporter'
$marker = Join-Path $root '.installed-by-install.ps1' # only a folder with it is removed
$environment = Join-Path $root 'venv'
$previous = Join-Path $root 'previous'
$scripts = Join-Path $environment 'Scripts'
$program = Join-Path $scripts 'modelhost-exporter.exe'

function Invoke-Program {
    param([string] $Path, [string[]] $Arguments)
    & $Path @Arguments
    if ($LASTEXITCODE -ne 0) {
        throw "$Path $Arguments failed with exit code $LASTEXITCODE"
    }
}

function Find-Python {
    foreach ($candidate in 'python', 'python3') {
        $found = Get-Command $candidate -CommandType Application -ErrorAction SilentlyContinue | Select-Object -First 1
        if (-not $found) {
            continue
        }
        try {
            & $found.Source -c 'import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 11))' 2>$null
            if ($LASTEXITCODE -eq 0) {
                return $found.Source
            }
        }
        catch {
            Write-Verbose "$candidate does not start: $_"
        }
    }
    return $null
}

function Get-Uv {
    $found = Get-Command 'uv' -CommandType Application -ErrorAction SilentlyContinue | Select-Object -First 1
    if ($found) {
        return $found.Source
    }
    $uv = Join-Path $root 'uv\uv.exe'
    if (-not (Test-Path $uv)) {
        $script = Join-Path $root 'uv-install.ps1'
        Invoke-WebRequest -UseBasicParsing -Uri 'https://astral.sh/uv/install.ps1' -OutFile $script
        $env:UV_UNMANAGED_INSTALL = Join-Path $root 'uv'
        Invoke-Program 'powershell' @('-ExecutionPolicy', 'Bypass', '-File', $script) | Out-Null
        Remove-Item $script
    }
    return $uv
}

function Install-Environment {
    $python = Find-Python
    $inside = Join-Path $scripts 'python.exe'
    if ($python) {
        Invoke-Program $python @('-m', 'venv', $environment)
        Invoke-Program $inside @('-m', 'pip', '--disable-pip-version-check', '--quiet', 'install', $From)
        return
    }
    $env:UV_PYTHON_INSTALL_DIR = Join-Path $root 'python'
    $uv = Get-Uv
    Invoke-Program $uv @('venv', '--quiet', '--python', '>=3.11', $environment)
    Invoke-Program $uv @('pip', 'install', '--quiet', '--python', $inside, $From)
}

# What was there stays if the new one cannot be installed.
function Install-Exporter {
    if ((Test-Path $root) -and -not (Test-Path $marker)) {
        throw "$root exists and was not made by this script: move it away"
    }
    New-Item -ItemType Directory -Force $root | Out-Null
    New-Item -ItemType File -Force $marker | Out-Null
    if (Test-Path $program) {
        & schtasks.exe /End /TN modelhost-exporter 2>$null | Out-Null # files of running programs cannot be moved
    }
    if (Test-Path $previous) {
        Remove-Item -Recurse -Force $previous
    }
    if (Test-Path $environment) {
        Move-Item $environment $previous
    }
    try {
        Install-Environment
        Invoke-Program $program @('--version')
    }
    catch {
        if (Test-Path $environment) {
            Remove-Item -Recurse -Force $environment
        }
        if (Test-Path $previous) {
            Move-Item $previous $environment
        }
        throw
    }
    if (Test-Path $previous) {
        Remove-Item -Recurse -Force $previous
    }
}

function Set-UserPath {
    param([switch] $Remove)
    $entries = @([Environment]::GetEnvironmentVariable('Path', 'User') -split ';' | Where-Object { $_ -and $_ -ne $scripts })
    if (-not $Remove) {
        $entries += $scripts
    }
    [Environment]::SetEnvironmentVariable('Path', ($entries -join ';'), 'User')
}

if ($Uninstall) {
    if (Test-Path $program) {
        Invoke-Program $program @('service', 'uninstall', '--user')
    }
    Set-UserPath -Remove
    if (Test-Path $marker) {
        Remove-Item -Recurse -Force $root
    }
    return
}

Install-Exporter
Set-UserPath
if ($Service) {
    Invoke-Program $program @('service', 'install', '--user')
}
else {
    & schtasks.exe /Run /TN modelhost-exporter 2>$null | Out-Null # the task of an earlier installation, if any
    Write-Output "start it with: $program; whenever you log on with: $program service install --user"
}
if ($Open) {
    Start-Process 'http://127.0.0.1:8585/'
}
